#!/usr/bin/env bash
# Measures the gateway beside its peers in one run. `make bench` calls this.
set -euo pipefail
cd "$(dirname "$0")/../.."
. bench/peers.sh
node dist/bench/overhead/main.js "$litellm" "$portkey" "$@"
