#!/usr/bin/env bash
# Installs the peers once, outside the checkout, and measures all of them in one run. `make bench` calls this.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/holdfast"

litellm="$cache/litellm-1.106.2"
if [ ! -x "$litellm/bin/litellm" ]; then
  python3 -m venv "$litellm"
  "$litellm/bin/pip" install --quiet 'litellm[proxy]==1.106.2'
fi

portkey="$cache/portkey-1.15.2"
if [ ! -d "$portkey/node_modules" ]; then
  npm install --silent --no-audit --no-fund --prefix "$portkey" @portkey-ai/gateway@1.15.2
fi

node dist/bench/overhead/main.js "$litellm/bin/litellm" "$portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
