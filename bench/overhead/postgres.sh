#!/usr/bin/env bash
# The same with a real Postgres, a real Redis and a Temporal server on that Postgres instead of the embedded parts, all of
# which count as Holdfast's. `make bench-postgres` calls this.
set -euo pipefail
cd "$(dirname "$0")/../.."
. bench/peers.sh
version=v1.29.1
cached="${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/bin"
temporal_cli=$(compgen -G "$cached/temporal-[0-9]*" | head -n 1)
if [ ! -x "$cached/temporal-server-$version" ]; then
  echo "Building the Temporal server $version (a few minutes)…" >&2
  tmp=$(mktemp -d)
  GOBIN="$tmp" go install "go.temporal.io/server/cmd/server@$version" "go.temporal.io/server/cmd/tools/sql@$version"
  mkdir -p "$cached"
  mv "$tmp/sql" "$cached/temporal-sql-tool-$version"
  mv "$tmp/server" "$cached/temporal-server-$version"
fi
schema="$(go env GOMODCACHE)/go.temporal.io/server@$version/schema/postgresql/v12"

. bench/servers.sh -c max_connections=200
sql_tool() { "$cached/temporal-sql-tool-$version" --plugin postgres12 --ep 127.0.0.1 -p "$port" -u postgres --pw '' "$@" >/dev/null 2>&1; }
for store in temporal visibility; do
  database=$([ "$store" = temporal ] && echo temporal || echo temporal_visibility)
  sql_tool --db "$database" create
  sql_tool --db "$database" setup-schema -v 0.0
  sql_tool --db "$database" update-schema -d "$schema/$store/versioned"
done

# Temporal keeps its ports as smallints.
low_port() {
  node -e 'const t=()=>{const s=require("net").createServer();s.once("error",t);s.listen(20000+Math.floor(Math.random()*12000),"127.0.0.1",()=>{console.log(s.address().port);s.close()})};t()'
}
grpc=$(low_port)
mkdir "$dir/config"
datastore() {
  echo "{ sql: { pluginName: postgres12, databaseName: $1, connectAddr: '127.0.0.1:$port', connectProtocol: tcp, user: postgres, password: '', maxConns: $2, maxIdleConns: $2, maxConnLifetime: 1h } }"
}
service() { echo "{ rpc: { grpcPort: $1, membershipPort: $(low_port), bindOnLocalHost: true } }"; }
cat >"$dir/config/bench.yaml" <<YAML
log: { stdout: true, level: error }
persistence:
  defaultStore: default
  visibilityStore: visibility
  numHistoryShards: 4
  datastores:
    default: $(datastore temporal 20)
    visibility: $(datastore temporal_visibility 5)
global: { membership: { maxJoinDuration: 30s, broadcastAddress: 127.0.0.1 } }
services:
  frontend: $(service "$grpc")
  matching: $(service "$(low_port)")
  history: $(service "$(low_port)")
  worker: $(service "$(low_port)")
clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation: { active: { enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "127.0.0.1:$grpc" } }
dcRedirectionPolicy: { policy: noop }
dynamicConfigClient: { filepath: "$PWD/deploy/temporal/dynamic-config.yaml", pollInterval: 60s }
YAML
"$cached/temporal-server-$version" --root "$dir" --config config --env bench --allow-no-auth start >"$dir/temporal.log" 2>&1 &
temporal=$!
stop() {
  kill "$temporal" 2>/dev/null && wait "$temporal" 2>/dev/null || true
  cleanup
}
trap stop EXIT
cli() { "$temporal_cli" --address "127.0.0.1:$grpc" "$@"; }
for _ in $(seq 120); do cli operator cluster health >/dev/null 2>"$dir/health" && break || sleep 0.5; done
cli operator namespace create --namespace default --retention 24h >/dev/null
for _ in $(seq 60); do cli operator namespace describe --namespace default >/dev/null 2>&1 && break || sleep 0.5; done

postgres=$(head -n 1 "$dir/data/postmaster.pid")
export HOLDFAST_ENV="{\"DATABASE_URL\":\"$postgres_url\",\"REDIS_URL\":\"$redis_url\",\"TEMPORAL_ADDRESS\":\"127.0.0.1:$grpc\"}"
export HOLDFAST_PIDS="$temporal,$postgres,$redis"
node dist/bench/overhead/main.js "$litellm" "$portkey" "$@"
