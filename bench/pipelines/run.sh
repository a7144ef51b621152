#!/usr/bin/env bash
# Measures pipelines beside LangGraph's on one Postgres, and on a Redis. `make bench-pipelines` calls this; `run.sh quick`
# only shows that everything works, `run.sh 3` takes three rounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
. bench/peers.sh
. bench/servers.sh -c max_connections=200

for database in holdfast langgraph; do
  "$bin/createdb" -h 127.0.0.1 -p "$port" -U postgres "$database"
done
# Modules are looked for beside the script that imports them.
mkdir "$dir/peer"
ln -s "$langgraph/node_modules" "$dir/peer/node_modules"
cp bench/pipelines/langgraph.mjs "$dir/peer"

export REDIS_URL="$redis_url"
export POSTGRES_PID=$(head -n 1 "$dir/data/postmaster.pid") REDIS_PID="$redis"
node dist/bench/pipelines/main.js "${postgres_url%/postgres}" "$dir/peer/langgraph.mjs" "$@"
