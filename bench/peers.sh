# To be sourced: installs the peers once, outside the checkout. Sets `litellm`, `portkey` and, a directory
# with its modules, `langgraph`.
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

langgraph="$cache/langgraph-1.4.14"
if [ ! -d "$langgraph/node_modules" ]; then
  npm install --silent --no-audit --no-fund --prefix "$langgraph" @langchain/langgraph@1.4.14 @langchain/core@1.2.13 \
    @langchain/langgraph-checkpoint-postgres@1.0.5 openai@6.49.0 pg@8.23.1 zod@4.6.7
fi
