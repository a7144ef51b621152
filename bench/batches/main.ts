import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { sql } from 'kysely';
import OpenAI, { toFile } from 'openai';
import { DataDir } from '../../embedded/data-dir.ts';
import { freePort } from '../../embedded/ports.ts';
import { startTemporal } from '../../embedded/temporal.ts';
import { findTemporalBinary } from '../../embedded/temporal-binary.ts';
import { connectDatabase } from '../../storage/postgres/database.ts';
import { start, stopAll, untilAnswers } from '../overhead/processes.ts';

// One batch through a front door and two workers on real Postgres and Redis, while the upstream fails at one call in
// twenty and one worker is killed in the middle: lines per second, and how long the histories become.
// usage: node dist/bench/batches/main.js <postgres url> <redis url> <lines>

const [databaseUrl, redisUrl, count] = process.argv.slice(2);
if (!databaseUrl || !redisUrl || !count) throw new Error('usage: main.js <postgres url> <redis url> <lines>');

const LINES = Number(count);
const POLL_MS = 500;
const KEY = `sk-${randomBytes(32).toString('hex')}`;
const here = dirname(fileURLToPath(import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
const dataDir = DataDir.open(join(dir, 'data'));

const binary = await findTemporalBinary({
  configured: process.env.TEMPORAL_CLI_PATH,
  env: process.env,
  onProgress: (line) => process.stderr.write(`${line}\n`),
});
const temporal = await startTemporal(binary, dataDir, { grpc: 0, ui: 0 });

const upstream = start(process.execPath, [join(here, 'upstream.js')], {});
const upstreamPort = await new Promise<number>((resolve) =>
  upstream.stdout?.once('data', (line: Buffer) => resolve(Number(line))),
);
const config = join(dir, 'gateway.yaml');
writeFileSync(
  config,
  `providers:\n  openai: { type: openai, base_url: "http://127.0.0.1:${upstreamPort}/v1", api_key: x }\n` +
    'background: { native_batches: false }\n',
);
const port = await freePort();
const url = `http://127.0.0.1:${port}`;
const env = {
  GATEWAY_CONFIG: config,
  GATEWAY_PORT: String(port),
  GATEWAY_MASTER_KEY: KEY,
  GATEWAY_ENCRYPTION_KEY: randomBytes(32).toString('hex'),
  GATEWAY_LOG_LEVEL: 'fatal',
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl,
  TEMPORAL_ADDRESS: temporal.address,
};
const holdfast = (command: string): ChildProcess => {
  const child = start(process.execPath, [join(here, '..', '..', 'cli', 'main.js'), command], env);
  child.stdout?.resume();
  return child;
};

const ended = (child: ChildProcess) => new Promise((resolve) => child.once('close', resolve));

try {
  await ended(holdfast('migrate'));
  const api = holdfast('api');
  const [victim] = [holdfast('worker'), holdfast('worker')];
  await untilAnswers(api, `${url}/health/ready`, 300);

  const client = new OpenAI({ apiKey: KEY, baseURL: `${url}/v1`, maxRetries: 0 });
  const lines = Array.from({ length: LINES }, (_, n) => ({
    custom_id: `line-${n}`,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'gpt-5-mini', max_tokens: 50, messages: [{ role: 'user', content: `Hello, ${n}!` }] },
  }));
  const file = await toFile(Buffer.from(lines.map((line) => JSON.stringify(line)).join('\n')), 'in.jsonl');
  const { id: input_file_id } = await client.files.create({ file, purpose: 'batch' });
  const started = performance.now();
  const { id } = await client.batches.create({
    input_file_id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });

  let killed = false;
  let batch = await client.batches.retrieve(id);
  while (batch.status !== 'completed') {
    await sleep(POLL_MS);
    batch = await client.batches.retrieve(id);
    const { completed = 0, failed = 0 } = batch.request_counts ?? {};
    process.stderr.write(`\r${batch.status} ${completed + failed} `);
    if (!killed && completed > LINES / 2) {
      victim?.kill('SIGKILL');
      killed = true;
    }
  }
  const seconds = (performance.now() - started) / 1000;
  process.stderr.write('\n');

  const idsIn = async (name: string | undefined): Promise<string[]> => {
    if (!name) return [];
    const text = await (await client.files.content(name)).text();
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).custom_id as string);
  };
  const ids = [...(await idsIn(batch.output_file_id)), ...(await idsIn(batch.error_file_id))];
  const db = connectDatabase({ url: databaseUrl, maxConnections: 1, onError: () => {} });
  const { rows } = await sql<{ attempts: number; unknown: number }>`
    SELECT count(*) AS attempts, count(*) FILTER (WHERE a.state = 'unknown') AS unknown
    FROM attempts a JOIN llm_requests r ON r.id = a.request_id WHERE r.run_id = ${id}`.execute(db);
  await db.destroy();
  const { calls, faults } = (await (await fetch(`http://127.0.0.1:${upstreamPort}`)).json()) as Record<string, number>;

  console.log(`${LINES} lines in ${seconds.toFixed(1)} s: ${(LINES / seconds).toFixed(1)} lines/s`);
  console.log(`counts ${JSON.stringify(batch.request_counts)}; ${ids.length} in files, ${new Set(ids).size} different`);
  console.log(
    `upstream: ${calls} calls, ${faults} faults; ledger: ${rows[0]?.attempts} attempts, ${rows[0]?.unknown} unknown`,
  );
  const connection = await Connection.connect({ address: temporal.address });
  const workflows = new Client({ connection }).workflow;
  console.log('| run | events | KB |');
  console.log('| --- | --- | --- |');
  let n = 0;
  for await (const { runId } of workflows.list({ query: `WorkflowId = "${id}"` })) {
    const { historyLength, historySize = 0 } = await workflows.getHandle(id, runId).describe();
    n += 1;
    console.log(`| ${n} | ${historyLength} | ${Math.round(historySize / 1024)} |`);
  }
  await connection.close();
} finally {
  await stopAll();
  await temporal.stop();
  dataDir.close();
  rmSync(dir, { recursive: true, force: true });
}
