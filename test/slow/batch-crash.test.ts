import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../../embedded/ports.ts';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import { ENCRYPTION_KEY } from '../support/databases.ts';
import { FixtureServer, type Received, type Reply } from '../support/fixture-server.ts';
import { eventually } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { HoldfastProcess } from '../support/process.ts';
import { openaiCompletion } from '../support/shapes.ts';

const MASTER_KEY = 'sk-master-for-tests';
const LINES = 300;

describe.skipIf(inject('postgres') === null || inject('redis') === null)('a batch whose worker is killed', () => {
  const upstream = new FixtureServer();
  const processes: HoldfastProcess[] = [];
  /** How often the upstream was called for each line, and how often it answered. */
  const seen = new Map<string, { calls: number; answered: number }>();
  let dir: string;
  let db: Sql;
  let client: OpenAI;
  let startWorker: () => Promise<HoldfastProcess>;

  /** Of twenty lines one is refused, one fails once, and two are slow. */
  function reply({ body }: Received): Reply {
    const id = body.messages[0].content as string;
    const known = seen.get(id) ?? { calls: 0, answered: 0 };
    seen.set(id, known);
    known.calls += 1;
    const lot = Number(id.slice(1)) % 20;
    if (lot === 0) return { status: 400, body: { error: { message: 'no' } } };
    if (lot === 1 && known.calls === 1) return { status: 503, body: { error: { message: 'overloaded' } } };
    known.answered += 1;
    return { body: openaiCompletion(`re: ${id}`), delayMs: lot < 4 ? 1_000 : 50 };
  }

  beforeAll(async () => {
    await upstream.start();
    upstream.reply = reply;
    dir = mkdtempSync(join(tmpdir(), 'holdfast-batch-'));
    const yaml = `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }\nretry: { retry_delay: 0.1 }\nbudgets: { sweep_interval: 0 }\nbackground: { native_batches: false }\n`;
    writeFileSync(join(dir, 'gateway.yaml'), yaml);
    const port = await freePort();
    const env = {
      GATEWAY_CONFIG: 'gateway.yaml',
      GATEWAY_PORT: String(port),
      GATEWAY_LOG_LEVEL: 'error',
      GATEWAY_MASTER_KEY: MASTER_KEY,
      GATEWAY_ENCRYPTION_KEY: ENCRYPTION_KEY,
      DATABASE_URL: inject('postgres') ?? '',
      REDIS_URL: inject('redis') ?? '',
      TEMPORAL_ADDRESS: inject('temporal'),
      TEMPORAL_TASK_QUEUE: `batch-crash-${crypto.randomUUID()}`,
    };
    const run = (args: readonly string[], extra: Record<string, string> = {}) => {
      const started = new HoldfastProcess(args, { ...env, ...extra }, dir);
      processes.push(started);
      return started;
    };
    expect(await run(['migrate']).ended).toBe(0);
    run(['api']);
    startWorker = async () => {
      const worker = run(['worker'], { GATEWAY_LOG_LEVEL: 'info' });
      await worker.says(/The worker polls/);
      return worker;
    };
    const url = `http://127.0.0.1:${port}`;
    await eventually(async () => (await fetch(`${url}/health/ready`).catch(() => undefined))?.ok, 60_000);
    client = new OpenAI({ apiKey: MASTER_KEY, baseURL: `${url}/v1`, maxRetries: 0 });
    db = connectDatabase({ url: inject('postgres') ?? '', maxConnections: 2, onError: () => {} });
  });
  afterAll(async () => {
    for (const started of processes) await started.kill('SIGKILL');
    await db?.destroy();
    await upstream.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const idsIn = async (file: string | undefined): Promise<string[]> => {
    if (!file) return [];
    const text = await (await client.files.content(file)).text();
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).custom_id as string);
  };

  it('answers every line once and books what the upstream was asked for', async () => {
    const first = await startWorker();
    const ids = Array.from({ length: LINES }, (_, i) => `l${i}`);
    const lines = ids.map((custom_id) => ({
      custom_id,
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model: 'gpt-5-mini', max_tokens: 50, messages: [{ role: 'user', content: custom_id }] },
    }));
    const jsonl = lines.map((line) => JSON.stringify(line)).join('\n');
    const { id: input_file_id } = await client.files.create({
      file: await toFile(Buffer.from(jsonl), 'in.jsonl'),
      purpose: 'batch',
    });
    const { id } = await client.batches.create({
      input_file_id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    });

    await eventually(async () => seen.size > LINES / 3, 30_000);
    await first.kill('SIGKILL');
    expect(seen.size).toBeLessThan(LINES);
    await startWorker();
    const batch = await eventually(async () => {
      const found = await client.batches.retrieve(id);
      return found.status === 'completed' && found;
    }, 90_000);

    const answered = await idsIn(batch.output_file_id);
    const failed = await idsIn(batch.error_file_id);
    expect([...answered, ...failed].sort()).toEqual([...ids].sort());
    expect(failed.every((one) => Number(one.slice(1)) % 20 === 0)).toBe(true);
    expect(batch.request_counts).toEqual({ total: LINES, completed: LINES - LINES / 20, failed: LINES / 20 });

    const { rows } = await sql<{ id: string; state: string; calls: number; unknown: number }>`
      SELECT l.custom_id AS id, r.state, count(a.*) AS calls, count(a.*) FILTER (WHERE a.state = 'unknown') AS unknown
      FROM batch_lines l JOIN llm_requests r ON r.id = l.batch_id || '-' || l.n LEFT JOIN attempts a ON a.request_id = r.id
      WHERE l.batch_id = ${id} GROUP BY l.custom_id, r.state`.execute(db);
    expect(rows.length).toBe(LINES);
    let unknown = 0;
    for (const row of rows) {
      const { calls = 0 } = seen.get(row.id) ?? {};
      expect(['completed', 'failed']).toContain(row.state);
      // A call that was claimed and not made before the end of its process is unknown as well.
      expect(row.calls).toBeGreaterThanOrEqual(calls);
      expect(row.calls - calls).toBeLessThanOrEqual(row.unknown);
      unknown += row.unknown;
    }
    expect(unknown).toBeGreaterThan(0);
    const { rows: open } = await sql`
      SELECT 1 FROM reservations v JOIN llm_requests r ON r.id = v.request_id
      WHERE r.run_id = ${id} AND v.settled_at IS NULL`.execute(db);
    expect(open).toEqual([]);
  }, 180_000);
});
