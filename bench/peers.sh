# To be sourced: installs the peers once, outside the checkout. Sets `litellm` and `portkey`.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/holdfast"

venv="$cache/litellm-1.106.2"
if [ ! -x "$venv/bin/litellm" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet 'litellm[proxy]==1.106.2'
fi
litellm="$venv/bin/litellm"

modules="$cache/portkey-1.15.2"
if [ ! -d "$modules/node_modules" ]; then
  npm install --silent --no-audit --no-fund --prefix "$modules" @portkey-ai/gateway@1.15.2
fi
portkey="$modules/node_modules/@portkey-ai/gateway/build/start-server.js"
