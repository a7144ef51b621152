#!/usr/bin/env bash
# Measures on a Postgres and a Redis of its own. `make bench-admission` calls this. ROWS="10000 1000000" sets how many
# ledger rows there are at each step.
set -euo pipefail
cd "$(dirname "$0")/../.."
source bench/servers.sh -c shared_buffers=1GB -c max_wal_size=8GB -c maintenance_work_mem=512MB

node dist/bench/admission/main.js "$postgres_url" "$redis_url" ${ROWS:-10000 1000000 10000000}
