# To be sourced, with options for Postgres: starts a Postgres and a Redis in a temporary directory and removes both at the
# end. Sets `postgres_url` and `redis_url`.
bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
dir=$(mktemp -d)
chmod 777 "$dir"
free_port() { node -e 'const s=require("net").createServer().listen(0,()=>{console.log(s.address().port);s.close()})'; }
port=$(free_port)
redis_port=$(free_port)

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
as_postgres "$bin/pg_ctl" start -w -D "$dir/data" -l "$dir/log" -o "-p $port -h 127.0.0.1 -k $dir $*" >/dev/null
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no >/dev/null &
redis=$!

postgres_url="postgres://postgres@127.0.0.1:$port/postgres"
redis_url="redis://127.0.0.1:$redis_port"
