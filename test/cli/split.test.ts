import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { sql } from 'kysely';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createSweepActivities } from '../../activities/sweep.ts';
import { freePort } from '../../embedded/ports.ts';
import { connectDatabase } from '../../storage/postgres/database.ts';
import { presenceOf } from '../../workers/presence.ts';
import { ENCRYPTION_KEY, sweepDeps } from '../support/databases.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually } from '../support/gateway.ts';
import { HeldServer } from '../support/held-server.ts';
import { inject } from '../support/inject.ts';
import { HoldfastProcess } from '../support/process.ts';
import { openaiCompletion, openaiDeltas, openaiStream } from '../support/shapes.ts';

const MASTER_KEY = 'sk-master-for-tests';
const available = inject('postgres') !== null && inject('redis') !== null;

describe.skipIf(!available)('front door and workers as separate processes', () => {
  const upstream = new FixtureServer();
  const processes: HoldfastProcess[] = [];
  let dir: string;
  let env: Record<string, string>;
  let url: string;
  let connection: Connection;
  let temporal: Client;

  const run = (args: readonly string[], extra: Record<string, string> = {}) => {
    const started = new HoldfastProcess(args, { ...env, ...extra }, dir);
    processes.push(started);
    return started;
  };
  const startWorker = async (extra: Record<string, string> = {}) => {
    const worker = run(['worker'], extra);
    await worker.says(/The worker polls/);
    return worker;
  };
  const startApi = async (extra: Record<string, string> = {}) => {
    const port = await freePort();
    const api = run(['api'], { GATEWAY_PORT: String(port), ...extra });
    await api.says(/The front door listens/);
    return { api, url: `http://127.0.0.1:${port}` };
  };
  const ask = (body: Record<string, unknown> = {}, headers: Record<string, string> = {}, base = url) =>
    fetch(`${base}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${MASTER_KEY}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }], ...body }),
    });
  const get = async (path: string, base = url) => {
    const response = await fetch(base + path, { headers: { authorization: `Bearer ${MASTER_KEY}` } });
    // biome-ignore lint/suspicious/noExplicitAny: the test looks into the answer
    return { status: response.status, body: (await response.json()) as any };
  };
  /** The ledger row of a request, once it is settled. */
  const settled = (id: string | null) =>
    eventually(async () => {
      const { body } = await get(`/logs/${id}`);
      return body.completed_at && body;
    });
  const temporalKnows = async (id: string) => (await presenceOf(temporal, id)) !== 'unknown';
  const calls = () => upstream.count(/chat\/completions/);
  const fetched = (requestId: string, base = url) =>
    eventually(async () => {
      const { status, body } = await get(`/v1/chat/completions/${requestId}`, base);
      return status === 200 && body;
    }, 40_000);

  beforeAll(async () => {
    await upstream.start();
    connection = await Connection.connect({ address: inject('temporal') });
    temporal = new Client({ connection });
    dir = mkdtempSync(join(tmpdir(), 'holdfast-split-'));
    const yaml = `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }\nretry: { retry_delay: 0.1 }\nserver: { shutdown_grace: 5 }\n`;
    writeFileSync(join(dir, 'ahead.yaml'), yaml);
    // Every call is a worker's.
    writeFileSync(join(dir, 'gateway.yaml'), `${yaml}speculation: { enabled: false }\n`);
    env = {
      GATEWAY_CONFIG: 'gateway.yaml',
      GATEWAY_MASTER_KEY: MASTER_KEY,
      GATEWAY_ENCRYPTION_KEY: ENCRYPTION_KEY,
      DATABASE_URL: inject('postgres') ?? '',
      REDIS_URL: inject('redis') ?? '',
      TEMPORAL_ADDRESS: inject('temporal'),
      TEMPORAL_TASK_QUEUE: `split-${crypto.randomUUID()}`,
    };
    expect(await run(['migrate']).ended).toBe(0);
    url = (await startApi()).url;
  });
  afterEach(async () => {
    upstream.reset();
    for (const worker of processes.filter(({ stdout }) => stdout.includes('The worker polls')))
      await worker.kill('SIGKILL');
  });
  afterAll(async () => {
    for (const started of processes) await started.kill('SIGKILL');
    await connection.close();
    await upstream.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  it('refuse a database that was not migrated, and say what to run', async () => {
    const admin = connectDatabase({ url: env.DATABASE_URL ?? '', maxConnections: 1, onError: () => {} });
    await sql`CREATE DATABASE unmigrated`.execute(admin);
    await admin.destroy();
    const worker = run(['worker'], { DATABASE_URL: (env.DATABASE_URL ?? '').replace(/postgres$/, 'unmigrated') });
    expect(await worker.ended).toBe(1);
    expect(worker.stderr).toMatch(/^The database lacks 0001-foundation.*\. Run 'holdfast migrate' first\.\n$/);
  });

  it('have their encryption key changed in steps', async () => {
    const admin = connectDatabase({ url: env.DATABASE_URL ?? '', maxConnections: 1, onError: () => {} });
    const dedicated = { DATABASE_URL: (env.DATABASE_URL ?? '').replace(/postgres$/, 'rotated') };
    await sql`CREATE DATABASE rotated`.execute(admin);
    await admin.destroy();
    expect(await run(['migrate'], dedicated).ended).toBe(0);
    const rotate = async (keys: Record<string, string>) => {
      const command = run(['keys', 'rotate-encryption'], { ...dedicated, ...keys });
      return { code: await command.ended, said: command.stdout + command.stderr };
    };
    const next = 'b2'.repeat(32);
    expect(await rotate({})).toMatchObject({ code: 0 });
    const refused = await rotate({ GATEWAY_ENCRYPTION_KEY: next });
    expect(refused).toMatchObject({ code: 1, said: expect.stringContaining('GATEWAY_ENCRYPTION_KEYS_PREVIOUS') });
    const rotated = { GATEWAY_ENCRYPTION_KEY: next, GATEWAY_ENCRYPTION_KEYS_PREVIOUS: ENCRYPTION_KEY };
    expect((await rotate(rotated)).said).toContain('Re-wrapped 2 data keys');
    expect(await rotate({ GATEWAY_ENCRYPTION_KEY: next })).toMatchObject({ code: 0 });
  });

  it('serve the official client, streaming and not', async () => {
    await startWorker();
    const client = new OpenAI({ apiKey: MASTER_KEY, baseURL: `${url}/v1`, maxRetries: 0 });
    const messages = [{ role: 'user' as const, content: 'hi' }];
    upstream.reply = () => ({ body: openaiCompletion('whole') });
    const whole = await client.chat.completions.create({ model: 'gpt-5-mini', messages });
    expect(whole.choices[0]?.message.content).toBe('whole');
    upstream.reply = () => ({ chunks: openaiStream(['a', 'b', 'c']), intervalMs: 100 });
    const arrivals: number[] = [];
    let text = '';
    for await (const chunk of await client.chat.completions.create({ model: 'gpt-5-mini', messages, stream: true })) {
      arrivals.push(performance.now());
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe('abc');
    expect((arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0)).toBeGreaterThan(150);
  });

  it('SIGKILL of the worker during a provider call: another worker frees the slot of its key', async () => {
    const doomed = await startWorker();
    const made = await fetch(`${url}/config/virtual-keys`, {
      method: 'POST',
      headers: { authorization: `Bearer ${MASTER_KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'one at a time', rateLimit: { concurrent: 1 } }),
    });
    const { key } = (await made.json()) as { key: string };
    const authorization = `Bearer ${key}`;
    upstream.reply = () => ({ delayMs: 60_000 });
    const asking = ask({}, { authorization });
    await eventually(async () => calls() === 1);
    await doomed.kill('SIGKILL');
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    await startWorker();
    expect((await asking).status).toBe(200);
    // Its lease would last for minutes.
    await eventually(async () => (await ask({}, { authorization })).status === 200);
  });

  it('SIGKILL of the worker during a provider call: another worker completes the request', async () => {
    const doomed = await startWorker();
    upstream.reply = () => ({ delayMs: 60_000 });
    const requestId = crypto.randomUUID();
    const asking = ask({}, { 'x-request-id': requestId });
    await eventually(async () => calls() === 1);
    await doomed.kill('SIGKILL');
    upstream.reply = () => ({ body: openaiCompletion('from the other worker') });
    await startWorker();

    const response = await asking;
    expect(response.status).toBe(200);
    const completion = (await response.json()) as OpenAI.ChatCompletion;
    expect(completion.choices[0]?.message.content).toBe('from the other worker');
    expect(await fetched(completion.id)).toEqual(completion);
    expect(await fetched(requestId)).toEqual(completion);
    expect(await settled(completion.id)).toMatchObject({
      state: 'completed',
      attempts: [
        { n: 1, state: 'unknown', error: 'gateway_unavailable' },
        { n: 2, state: 'succeeded', error: null },
      ],
    });
    expect(calls()).toBe(2);
  });

  it('SIGKILL of the worker in the middle of a stream: the caller is told, and never shown another answer', async () => {
    const doomed = await startWorker();
    upstream.reply = () => ({
      chunks: [...openaiDeltas(['Hel', 'lo']), ...openaiStream(['never'])],
      intervalMs: 1_000,
    });
    const response = await ask({ stream: true });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = (await reader?.read())?.value ?? '';
    await doomed.kill('SIGKILL');
    upstream.reply = () => ({ chunks: openaiStream(['another']) });
    await startWorker();
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) text += part.value;
    expect(text).toContain('"Hel"');
    expect(text).not.toContain('another');
    expect(text).toMatch(/event: error\nid: \d+\ndata: .*"code":"stream_interrupted"/);
    const id = response.headers.get('x-holdfast-run-id');
    expect((await settled(id)).attempts).toMatchObject([{ state: 'unknown' }]);
    expect(calls()).toBe(1);
  });

  it('SIGKILL of the front door: the request goes on, and another front door has the answer', async () => {
    await startWorker();
    const first = await startApi();
    upstream.reply = () => ({ body: openaiCompletion('survived'), delayMs: 1_500 });
    const requestId = crypto.randomUUID();
    const asking = fetch(`${first.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${MASTER_KEY}`, 'content-type': 'application/json', 'x-request-id': requestId },
      body: JSON.stringify({ model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }] }),
    });
    asking.catch(() => {});
    await eventually(async () => calls() === 1);
    await first.api.kill('SIGKILL');
    await expect(asking).rejects.toThrow();
    expect((await fetched(requestId)).choices[0].message.content).toBe('survived');
    expect(calls()).toBe(1);
  });

  it('SIGKILL of a front door during the call it makes: a worker makes it again', async () => {
    await startWorker();
    const doomed = await startApi({ GATEWAY_CONFIG: 'ahead.yaml' });
    upstream.reply = () => ({ delayMs: 60_000 });
    const requestId = crypto.randomUUID();
    const asking = ask({}, { 'x-request-id': requestId }, doomed.url);
    asking.catch(() => {});
    await eventually(async () => calls() === 1);
    // Acknowledged: its workflow is there.
    await eventually(async () => (await get(`/v1/chat/completions/${requestId}`)).status === 202);
    const { body } = await get('/logs?limit=1');
    await eventually(async () => temporalKnows(body.data[0].run_id));
    await doomed.api.kill('SIGKILL');
    upstream.reply = () => ({ body: openaiCompletion('by the worker') });
    const completion = await fetched(requestId);
    expect(completion.choices[0].message.content).toBe('by the worker');
    expect((await settled(completion.id)).attempts).toMatchObject([
      { n: 1, state: 'unknown', error: 'gateway_unavailable' },
      { n: 2, state: 'succeeded' },
    ]);
    expect(calls()).toBe(2);
  });

  it('SIGKILL of a front door before Temporal acknowledged: nothing was accepted, and the call is on the books', async () => {
    const server = new HeldServer(inject('temporal'));
    const doomed = await startApi({ GATEWAY_CONFIG: 'ahead.yaml', TEMPORAL_ADDRESS: await server.start() });
    upstream.reply = () => ({ delayMs: 60_000 });
    server.hold();
    const asking = ask({}, {}, doomed.url);
    asking.catch(() => {});
    await eventually(async () => calls() === 1);
    await doomed.api.kill('SIGKILL');
    await server.stop();
    const { body } = await get('/logs?limit=1');
    const { id } = body.data[0];
    expect(await temporalKnows(id)).toBe(false);

    const db = connectDatabase({ url: env.DATABASE_URL ?? '', maxConnections: 1, onError: () => {} });
    await sql`UPDATE llm_requests SET timestamp = now() - interval '5 minutes' WHERE id = ${id}`.execute(db);
    const { sweep } = createSweepActivities({ ...sweepDeps(db), presenceOf: (runId) => presenceOf(temporal, runId) });
    expect((await sweep()).settled).toContain(id);
    await db.destroy();
    expect((await get(`/logs/${id}`)).body).toMatchObject({ state: 'failed', attempts: [{ n: 1, state: 'unknown' }] });
  });

  it('SIGTERM of the worker: it finishes the call it has', async () => {
    const worker = await startWorker();
    upstream.reply = () => ({ body: openaiCompletion('finished'), delayMs: 1_000 });
    const asking = ask();
    await eventually(async () => calls() === 1);
    expect(await worker.kill('SIGTERM')).toBe(0);
    expect((await asking).status).toBe(200);
    expect(calls()).toBe(1);
  });

  it('SIGTERM of the worker during a call that outlasts its grace: another worker makes it again', async () => {
    const worker = await startWorker();
    upstream.reply = () => ({ body: openaiCompletion('too late'), delayMs: 30_000 });
    const asking = ask();
    await eventually(async () => calls() === 1);
    const ended = worker.kill('SIGTERM');
    upstream.reply = () => ({ body: openaiCompletion('again') });
    await startWorker();
    expect(await ended).toBe(0);
    const completion = (await (await asking).json()) as OpenAI.ChatCompletion;
    expect(completion.choices[0]?.message.content).toBe('again');
    expect((await settled(completion.id)).attempts).toMatchObject([
      { state: 'unknown', error: 'gateway_unavailable' },
      { state: 'succeeded' },
    ]);
  });

  it('a caller who hangs up stops the call in the worker', async () => {
    await startWorker();
    upstream.reply = () => ({ chunks: openaiStream(Array.from({ length: 300 }, (_, i) => `w${i} `)), intervalMs: 100 });
    const abort = new AbortController();
    const client = new OpenAI({ apiKey: MASTER_KEY, baseURL: `${url}/v1`, maxRetries: 0 });
    const { data, response } = await client.chat.completions
      .create(
        { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }], stream: true },
        { signal: abort.signal },
      )
      .withResponse();
    for await (const _chunk of data) break;
    abort.abort();
    const id = response.headers.get('x-holdfast-run-id');
    expect(await settled(id)).toMatchObject({
      state: 'cancelled',
      attempts: [{ state: 'cancelled', usage_estimated: true }],
    });
  });

  it('answer without Redis when it dies, and use it again when it is back', async () => {
    const port = await freePort();
    const startRedis = () =>
      spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], {
        stdio: 'ignore',
      });
    let redis = startRedis();
    const ping = () => execFileSync('redis-cli', ['-p', String(port), 'ping'], { stdio: 'pipe' });
    const up = () =>
      eventually(async () => {
        try {
          ping();
          return true;
        } catch {
          return false;
        }
      });
    await up();
    const own = { REDIS_URL: `redis://127.0.0.1:${port}`, TEMPORAL_TASK_QUEUE: `redis-${crypto.randomUUID()}` };
    await startWorker(own);
    const { api, url: base } = await startApi(own);
    const client = new OpenAI({ apiKey: MASTER_KEY, baseURL: `${base}/v1`, maxRetries: 0 });
    const messages = [{ role: 'user' as const, content: 'hi' }];
    upstream.reply = () => ({ body: openaiCompletion('slow'), delayMs: 1_500 });
    const before = client.chat.completions.create({ model: 'gpt-5-mini', messages });
    await eventually(async () => calls() === 1);
    redis.kill('SIGKILL');
    expect((await before).choices[0]?.message.content).toBe('slow');
    upstream.reply = () => ({ body: openaiCompletion('without') });
    expect((await client.chat.completions.create({ model: 'gpt-5-mini', messages })).choices[0]?.message.content).toBe(
      'without',
    );
    upstream.reply = () => ({ chunks: openaiStream(['whole', ' stream']) });
    let text = '';
    for await (const chunk of await client.chat.completions.create({ model: 'gpt-5-mini', messages, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe('whole stream');
    expect((await get('/health', base)).body).toMatchObject({ status: 'degraded', redis: { status: 'unhealthy' } });

    redis = startRedis();
    await up();
    await eventually(async () => (await get('/health', base)).body.redis.status === 'healthy', 30_000);
    upstream.reply = () => ({ body: openaiCompletion('with') });
    expect((await client.chat.completions.create({ model: 'gpt-5-mini', messages })).choices[0]?.message.content).toBe(
      'with',
    );
    await api.kill('SIGKILL');
    redis.kill('SIGKILL');
  });

  it('every call the upstream got has a row in the ledger', async () => {
    await startWorker();
    upstream.reply = () => ({ body: openaiCompletion('counted') });
    const responses = await Promise.all(Array.from({ length: 40 }, () => ask()));
    const ids = responses.map((response) => response.headers.get('x-holdfast-run-id'));
    const rows = await Promise.all(ids.map(settled));
    expect(rows.flatMap((row) => row.attempts)).toHaveLength(calls());
    expect(rows.every((row) => row.state === 'completed' && row.total_tokens === 15)).toBe(true);
  });
});
