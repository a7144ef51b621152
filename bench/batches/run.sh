#!/usr/bin/env bash
# Measures on a Postgres and a Redis of its own. `make bench-batches` calls this. LINES=10000 sets how many lines the batch
# has.
set -euo pipefail
cd "$(dirname "$0")/../.."
source bench/servers.sh -c shared_buffers=512MB -c max_connections=200

node dist/bench/batches/main.js "$postgres_url" "$redis_url" "${LINES:-10000}"
