#!/usr/bin/env bash
# Measures many streams at once. `make bench-streaming` calls this.
set -euo pipefail
cd "$(dirname "$0")/../.."
. bench/peers.sh
node dist/bench/streaming/main.js "$litellm" "$portkey"
