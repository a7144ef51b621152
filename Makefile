# `make start` and `make test` do everything on a fresh machine; both need Node.js 20.19 or newer and nothing else.
SOURCES := $(shell find activities api calls cli config domain embedded planning providers storage workers workflows -name '*.ts' -o -name '*.yaml')
INSTALLED := node_modules/.package-lock.json
BUILT := dist/workflow-bundle.js

.PHONY: start test test-slow check format bench bench-postgres bench-streaming bench-admission bench-batches bench-pipelines clean node

start: $(BUILT)
	@node dist/cli/main.js start

test: $(BUILT)
	npx vitest run --project unit --project integration

# What takes too long for every change: rushes on budgets and batches, with crashes in the middle.
test-slow: $(BUILT)
	npx vitest run --project slow

# Lint and format, types, and the direction of imports.
check: $(INSTALLED)
	npx biome check --error-on-warnings .
	npx tsc -p tsconfig.json
	npx vitest run --project unit test/dependencies.test.ts

format: $(INSTALLED)
	npx biome check --write .

# Overhead beside the upstream itself, LiteLLM and Portkey, in one run.
bench: $(BUILT)
	bench/overhead/run.sh

# The same on a real Postgres and Redis, and a Temporal server on that Postgres.
bench-postgres: $(BUILT)
	bench/overhead/postgres.sh

# A thousand streams at once.
bench-streaming: $(BUILT)
	bench/streaming/run.sh

# What it costs to let a request in, as keys and ledger grow.
bench-admission: $(BUILT)
	bench/admission/run.sh

# A large batch while the upstream fails and a worker is killed.
bench-batches: $(BUILT)
	bench/batches/run.sh

# What a step of a pipeline costs, beside LangGraph on the same Postgres.
bench-pipelines: $(BUILT)
	bench/pipelines/run.sh

clean:
	rm -rf dist node_modules

node:
	@node -e 'const [a, b] = process.versions.node.split(".").map(Number); if (a < 20 || (a === 20 && b < 19)) { console.error(`Holdfast needs Node.js 20.19 or newer; this is $${process.versions.node}.`); process.exit(1); }'

$(INSTALLED): package.json package-lock.json | node
	npm ci --no-audit --no-fund
	@touch $@

$(BUILT): $(INSTALLED) $(SOURCES) tsconfig.json tsconfig.build.json
	npm run --silent build
