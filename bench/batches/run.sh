#!/usr/bin/env bash
# Starts a Postgres and a Redis of its own in a temporary directory, measures, and removes both. `make bench-batches`
# calls this. LINES=10000 sets how many lines the batch has.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
dir=$(mktemp -d)
chmod 777 "$dir"
port=$(node -e 'const s=require("net").createServer().listen(0,()=>{console.log(s.address().port);s.close()})')
redis_port=$(node -e 'const s=require("net").createServer().listen(0,()=>{console.log(s.address().port);s.close()})')

as_postgres() {
  if [ "$(id -u)" -eq 0 ]; then (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); else (cd / && "$@"); fi
}
cleanup() {
  as_postgres "$bin/pg_ctl" stop -D "$dir/data" -m immediate >/dev/null 2>&1 || true
  [ -z "${redis:-}" ] || kill "$redis" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" start -w -D "$dir/data" -l "$dir/log" \
  -o "-p $port -h 127.0.0.1 -k $dir -c shared_buffers=512MB -c max_connections=200" >/dev/null
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no >/dev/null &
redis=$!

node dist/bench/batches/main.js "postgres://postgres@127.0.0.1:$port/postgres" "redis://127.0.0.1:$redis_port" "${LINES:-10000}"
