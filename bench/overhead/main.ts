import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Endpoint, load, type Measured, percentile } from './load.ts';
import { cpuSeconds, freePort, start, stopAll, untilAnswers } from './processes.ts';

// Latency and throughput of a chat completion: upstream direct, Holdfast, LiteLLM (one worker, no database), Portkey.
// usage: node dist/bench/overhead/main.js <python with litellm> <portkey's start-server.js>

const CONNECTIONS = [1, 10, 50];
const ROUNDS = 3;
const WARM_UP_SECONDS = 2;
const SECONDS = 5;
const KEY = `sk-${randomBytes(32).toString('hex')}`;

const [litellm, portkey] = process.argv.slice(2);
if (!litellm || !portkey) throw new Error('usage: main.js <litellm executable> <portkey start-server.js>');
const here = dirname(fileURLToPath(import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));

interface Target {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly pid: number;
}

const body = JSON.stringify({ model: 'gpt-5-mini', messages: [{ role: 'user', content: 'Hello!' }] });
const endpoint = (port: number, path: string, headers: Record<string, string> = {}): Endpoint => ({
  port,
  path,
  body,
  headers: {
    authorization: `Bearer ${KEY}`,
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...headers,
  },
});

async function startUpstream(): Promise<Target> {
  const child = start(process.execPath, [join(here, 'upstream.js')], {});
  const port = await new Promise<number>((resolve) =>
    child.stdout?.once('data', (line: Buffer) => resolve(Number(line))),
  );
  return { name: 'upstream direct', endpoint: endpoint(port, '/v1/chat/completions'), pid: child.pid ?? 0 };
}

async function startHoldfast(upstream: number): Promise<Target> {
  const port = await freePort();
  const config = join(dir, 'gateway.yaml');
  writeFileSync(
    config,
    `providers:\n  openai: { type: openai, base_url: "http://127.0.0.1:${upstream}/v1", api_key: x }\n`,
  );
  const child = start(process.execPath, [join(here, '..', '..', 'cli', 'main.js'), 'start'], {
    GATEWAY_CONFIG: config,
    GATEWAY_DATA_DIR: join(dir, 'data'),
    GATEWAY_PORT: String(port),
    GATEWAY_TEMPORAL_PORT: '0',
    GATEWAY_TEMPORAL_UI_PORT: '0',
    GATEWAY_MASTER_KEY: KEY,
    GATEWAY_LOG_LEVEL: 'warn',
  });
  child.stdout?.resume();
  await untilAnswers(`http://127.0.0.1:${port}/health/ready`, 300);
  return { name: 'Holdfast', endpoint: endpoint(port, '/v1/chat/completions'), pid: child.pid ?? 0 };
}

async function startLiteLLM(executable: string, upstream: number): Promise<Target> {
  const port = await freePort();
  const config = join(dir, 'litellm.yaml');
  writeFileSync(
    config,
    `model_list:
  - model_name: gpt-5-mini
    litellm_params: { model: openai/gpt-5-mini, api_base: "http://127.0.0.1:${upstream}/v1", api_key: x }
litellm_settings: { telemetry: false }
`,
  );
  const child = start(
    executable,
    ['--config', config, '--port', String(port), '--host', '127.0.0.1', '--num_workers', '1'],
    {
      LITELLM_MASTER_KEY: KEY,
      LITELLM_LOG: 'ERROR',
      LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    },
  );
  child.stdout?.resume();
  await untilAnswers(`http://127.0.0.1:${port}/health/liveliness`, 120);
  return { name: 'LiteLLM', endpoint: endpoint(port, '/v1/chat/completions'), pid: child.pid ?? 0 };
}

async function startPortkey(script: string, upstream: number): Promise<Target> {
  const port = await freePort();
  const child = start(process.execPath, [script, `--port=${port}`, '--headless'], {});
  child.stdout?.resume();
  await untilAnswers(`http://127.0.0.1:${port}/`, 60);
  const headers = { 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `http://127.0.0.1:${upstream}/v1` };
  return { name: 'Portkey', endpoint: endpoint(port, '/v1/chat/completions', headers), pid: child.pid ?? 0 };
}

interface Result {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly perSecond: number;
  readonly cpuMs: number;
  readonly errors: number;
}

function toResult({ latencies, errors, seconds }: Measured, cpu: number): Result {
  return {
    p50: percentile(latencies, 0.5),
    p95: percentile(latencies, 0.95),
    p99: percentile(latencies, 0.99),
    perSecond: latencies.length / seconds,
    cpuMs: (cpu * 1000) / Math.max(1, latencies.length),
    errors,
  };
}

const median = (values: readonly number[]): number =>
  percentile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
const medianOf = (results: readonly Result[]): Result => ({
  p50: median(results.map((result) => result.p50)),
  p95: median(results.map((result) => result.p95)),
  p99: median(results.map((result) => result.p99)),
  perSecond: median(results.map((result) => result.perSecond)),
  cpuMs: median(results.map((result) => result.cpuMs)),
  errors: results.reduce((sum, result) => sum + result.errors, 0),
});

async function measure(targets: readonly Target[]): Promise<Map<string, Result[]>> {
  const results = new Map<string, Result[]>();
  for (const { endpoint: to } of targets) await load(to, 10, WARM_UP_SECONDS);
  // Round by round, so that a machine that slows down slows everybody.
  for (let round = 1; round <= ROUNDS; round += 1) {
    for (const connections of CONNECTIONS) {
      for (const { name, endpoint: to, pid } of targets) {
        const before = cpuSeconds(pid);
        const measured = await load(to, connections, SECONDS);
        const key = `${name}/${connections}`;
        results.set(key, [...(results.get(key) ?? []), toResult(measured, cpuSeconds(pid) - before)]);
        process.stderr.write(`round ${round}/${ROUNDS}: ${name}, ${connections} connections\n`);
      }
    }
  }
  return results;
}

function report(targets: readonly Target[], results: ReadonlyMap<string, readonly Result[]>): void {
  const of = (name: string, connections: number) => medianOf(results.get(`${name}/${connections}`) ?? []);
  const rows = CONNECTIONS.flatMap((connections) => {
    const direct = of('upstream direct', connections);
    const peer = of('LiteLLM', connections);
    return targets.map(({ name }) => {
      const { p50, p95, p99, perSecond, cpuMs, errors } = of(name, connections);
      const added = p50 - direct.p50;
      return [
        String(connections),
        name,
        p50.toFixed(1),
        p95.toFixed(1),
        p99.toFixed(1),
        perSecond.toFixed(0),
        cpuMs.toFixed(1),
        String(errors),
        name === 'upstream direct' ? '' : `${added.toFixed(1)} ms, ${(added / (peer.p50 - direct.p50)).toFixed(2)} ×`,
        name === 'upstream direct' ? '' : `${(perSecond / peer.perSecond).toFixed(2)} ×`,
      ];
    });
  });
  const head = [
    'connections',
    'target',
    'p50 ms',
    'p95 ms',
    'p99 ms',
    'req/s',
    'CPU ms/req',
    'errors',
    'added p50 (vs LiteLLM)',
    'req/s vs LiteLLM',
  ];
  console.log(`| ${head.join(' | ')} |\n|${' --- |'.repeat(head.length)}`);
  for (const row of rows) console.log(`| ${row.join(' | ')} |`);
}

try {
  const upstream = await startUpstream();
  const { port } = upstream.endpoint;
  const targets = [
    upstream,
    await startHoldfast(port),
    await startLiteLLM(litellm, port),
    await startPortkey(portkey, port),
  ];
  report(targets, await measure(targets));
} finally {
  await stopAll();
  rmSync(dir, { recursive: true, force: true });
}
