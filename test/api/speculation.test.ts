import { Client, Connection } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import type OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer, type Reply } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { HeldServer } from '../support/held-server.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion, openaiStream } from '../support/shapes.ts';

const upstream = new FixtureServer();
const calls = () => upstream.count(/chat\/completions/);
const yaml = (more = '') => `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }
retry: { retry_delay: 0.3 }
server: { shutdown_grace: 1 }
${more}`;
const OFF = 'speculation: { enabled: false }';
/** Its provider may have begun to answer. */
const CANCELLED = { n: 1, state: 'unknown', error: 'gateway_cancelled' };
const body = { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }] };

let connection: Connection;
let client: Client;
beforeAll(async () => {
  await upstream.start();
  connection = await Connection.connect({ address: inject('temporal') });
  client = new Client({ connection });
});
afterEach(() => upstream.reset());
afterAll(async () => {
  await connection.close();
  await upstream.stop();
});

const rowOf = (gateway: TestGateway, id: string) => gateway.json(`/logs/${id}`);
const settledRow = (gateway: TestGateway, id: string) =>
  eventually(async () => {
    const row = await rowOf(gateway, id);
    return row.completed_at && row;
  });
/** The request that came in last. */
const newest = async (gateway: TestGateway) => (await gateway.json('/logs?limit=1')).data[0];
/** The call of a caller who makes no other: what requests before it left may still come in. */
const askAlone = async (gateway: TestGateway) => {
  const json = { name: 'alone', team: crypto.randomUUID() };
  const { key } = await gateway.json('/config/virtual-keys', { json });
  const asking = gateway.fetch('/v1/chat/completions', { json: body, key });
  const { id } = await eventually(async () => {
    const [row] = (await gateway.json('/logs?limit=1', { key })).data;
    return row?.attempts.length === 1 && (row as { id: string });
  });
  return { asking, id };
};
const held = () => {
  let release = (_: unknown) => {};
  const until = new Promise((resolve) => {
    release = resolve;
  });
  upstream.reply = (): Reply => ({ until, body: openaiCompletion('late') });
  return { release: () => release(undefined) };
};
/** What waits for something else has every chance to come first. */
const stateOf = async (promise: Promise<unknown>, gateway: TestGateway) => {
  for (let i = 0; i < 20; i += 1) await gateway.fetch('/health/live');
  return Promise.race([promise.then(() => 'answered'), Promise.resolve('pending')]);
};

describe('a first call ahead of its workflow', () => {
  const server = new HeldServer(inject('temporal'));
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway(yaml(), 'configured', { temporalAddress: await server.start() });
  });
  afterAll(async () => {
    await gateway.stop();
    await server.stop();
  });
  const ask = (init: object = {}) => gateway.fetch('/v1/chat/completions', { json: body, ...init });

  it.each([
    ['an answer', {}, () => ({ body: openaiCompletion('early') })],
    ['a stream', { stream: true }, () => ({ chunks: openaiStream(['ear', 'ly']) })],
  ])('keeps %s back until Temporal has acknowledged the start', async (_name, extra, reply: () => Reply) => {
    upstream.reply = reply;
    server.hold();
    const asking = ask({ json: { ...body, ...extra } });
    await eventually(async () => (await newest(gateway))?.attempts[0]?.state === 'succeeded');
    expect(await stateOf(asking, gateway)).toBe('pending');
    server.release();
    const response = await asking;
    expect(response.status).toBe(200);
    expect(await response.text()).toMatch(/ear.*ly/s);
    const id = response.headers.get('x-holdfast-run-id') ?? '';
    await client.workflow.getHandle(id).result();
    expect(await settledRow(gateway, id)).toMatchObject({
      state: 'completed',
      attempts: [{ n: 1, state: 'succeeded' }],
    });
    expect(calls()).toBe(1);
  });

  it('ends with a caller who hangs up before the acknowledgement', async () => {
    const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'gone', costCap: 1 } });
    const { release } = held();
    server.hold();
    const abort = new AbortController();
    const asking = ask({ key, signal: abort.signal });
    await eventually(async () => calls() === 1);
    abort.abort();
    await expect(asking).rejects.toThrow();
    const { id } = await eventually(async () => {
      const row = await newest(gateway);
      return row.attempts[0]?.error === 'gateway_cancelled' && row;
    });
    server.release();
    release();
    expect(await settledRow(gateway, id)).toMatchObject({
      state: 'cancelled',
      attempts: [CANCELLED],
    });
    await client.workflow
      .getHandle(id)
      .result()
      .catch(() => {});
    expect(calls()).toBe(1);
  });

  it('goes on for a caller who hangs up and may fetch the answer', async () => {
    const { release } = held();
    server.hold();
    const abort = new AbortController();
    const requestId = crypto.randomUUID();
    const asking = ask({ headers: { 'x-request-id': requestId }, signal: abort.signal });
    await eventually(async () => calls() === 1);
    abort.abort();
    await expect(asking).rejects.toThrow();
    server.release();
    release();
    await eventually(async () => (await gateway.fetch(`/v1/chat/completions/${requestId}`)).status === 200);
    expect(calls()).toBe(1);
  });

  it('is not made when a budget does not cover it', async () => {
    const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'poor', costCap: 0.000001 } });
    for (let i = 0; i < 2; i += 1) expect((await ask({ key })).status).toBe(429);
    expect(calls()).toBe(0);
  });

  it('that fails is the activity’s first: the next one keeps its distance', async () => {
    const replies: Reply[] = [{ status: 503 }, { body: openaiCompletion('second') }];
    upstream.reply = () => replies.shift() ?? { status: 500 };
    const response = await ask();
    expect(response.status).toBe(200);
    const id = response.headers.get('x-holdfast-run-id') ?? '';
    const row = await settledRow(gateway, id);
    expect(row.attempts).toMatchObject([
      { n: 1, state: 'failed' },
      { n: 2, state: 'succeeded' },
    ]);
    const handle = client.workflow.getHandle(id);
    await handle.result();
    const { events } = await handle.fetchHistory();
    const [started] = (events ?? []).flatMap((event) => event.activityTaskStartedEventAttributes ?? []);
    expect(started).toMatchObject({ attempt: 2 });
  });

  it('is not made while Temporal does not answer', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    await server.cut();
    const asking: Promise<Response>[] = [];
    // The first of them finds out.
    await eventually(async () => {
      const requestId = crypto.randomUUID();
      asking.push(ask({ headers: { 'x-request-id': requestId } }));
      const { id } = await eventually(async () => {
        const response = await gateway.fetch(`/v1/chat/completions/${requestId}`);
        return response.status < 300 && ((await response.json()) as { id: string });
      });
      return (await rowOf(gateway, id)).attempts.length === 0;
    });
    const made = calls();
    await server.mend();
    for (const { status } of await Promise.all(asking)) expect([200, 503]).toContain(status);
    expect(made).toBeLessThan(asking.length);
    await eventually(async () => (await ask()).status === 200);
  });

  it('is stopped by an operator who cancels the run', async () => {
    held();
    const { asking, id } = await askAlone(gateway);
    await eventually(async () =>
      client.workflow
        .getHandle(id)
        .cancel()
        .then(
          () => true,
          () => false,
        ),
    );
    expect((await asking).status).toBe(409);
    expect(await settledRow(gateway, id)).toMatchObject({
      state: 'cancelled',
      attempts: [CANCELLED],
    });
  });

  const eventsOf = async (via: TestGateway) => {
    const response = await via.fetch('/v1/chat/completions', { json: body });
    const handle = client.workflow.getHandle(response.headers.get('x-holdfast-run-id') ?? '');
    const { responseRef: _, ...result } = (await handle.result()) as { responseRef: string };
    const { events } = await handle.fetchHistory();
    return {
      result,
      events: (events ?? []).map(({ eventType }) => temporal.api.enums.v1.EventType[eventType ?? 0] ?? ''),
    };
  };

  it('leaves the same history as one by the workflow if it takes longer than the first workflow task may', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi'), delayMs: 6_500 });
    const off = await startGateway(yaml(OFF), 'configured');
    const [without, ahead] = await Promise.all([off, gateway].map(eventsOf));
    expect(without?.events).toContain('EVENT_TYPE_ACTIVITY_TASK_COMPLETED');
    expect(ahead).toEqual(without);
    await off.stop();
  });

  it.each([0, 2_500])('that is answered after %i ms ends its run with the first workflow task', async (delayMs) => {
    upstream.reply = () => ({ body: openaiCompletion('hi'), delayMs });
    const { events } = await eventsOf(gateway);
    expect(events.filter((type) => /TASK_COMPLETED/.test(type))).toEqual(['EVENT_TYPE_WORKFLOW_TASK_COMPLETED']);
    expect(events.at(-1)).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
  });
});

describe('a first call in a front door without a worker', () => {
  let api: TestGateway;
  let worker: TestGateway;
  beforeAll(async () => {
    api = await startGateway(yaml(), 'configured', { roles: { api: true, worker: false } });
    worker = await startWorker();
  });
  const startWorker = () =>
    startGateway(yaml(), 'configured', { roles: { api: false, worker: true }, taskQueue: api.taskQueue });
  afterAll(async () => {
    await worker.stop();
    await api.stop();
  });
  const ask = (init: object = {}) => api.fetch('/v1/chat/completions', { json: body, ...init });

  it('is joined by the activity in another process', async () => {
    upstream.reply = () => ({ body: openaiCompletion('joined') });
    const response = await ask();
    const completion = (await response.json()) as OpenAI.ChatCompletion;
    expect(completion.choices[0]?.message.content).toBe('joined');
    await client.workflow.getHandle(completion.id).result();
    expect((await settledRow(api, completion.id)).attempts).toMatchObject([{ n: 1, state: 'succeeded' }]);
    expect(calls()).toBe(1);
  });

  it('that fails is followed by the worker’s, not sooner than it may', async () => {
    const replies: Reply[] = [{ status: 503 }, { body: openaiCompletion('second') }];
    const times: number[] = [];
    upstream.reply = () => {
      times.push(performance.now());
      return replies.shift() ?? { status: 500 };
    };
    const response = await ask();
    expect(response.status).toBe(200);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(295);
    const id = response.headers.get('x-holdfast-run-id') ?? '';
    expect((await settledRow(api, id)).attempts).toMatchObject([{ state: 'failed' }, { state: 'succeeded' }]);
  });

  it('is stopped by an operator who cancels the run, and booked at what it came to', async () => {
    held();
    const { asking, id } = await askAlone(api);
    const handle = client.workflow.getHandle(id);
    await eventually(async () => (await handle.describe().catch(() => undefined))?.raw.pendingActivities?.length === 1);
    await handle.cancel();
    expect((await asking).status).toBe(409);
    const row = await settledRow(api, id);
    expect(row).toMatchObject({ state: 'cancelled', attempts: [CANCELLED] });
  });

  it('answers the caller although every worker is gone; the next one ends the run', async () => {
    const { release } = held();
    const asking = ask();
    await eventually(async () => calls() === 1);
    await worker.stop();
    release();
    const response = await asking;
    expect(response.status).toBe(200);
    const id = response.headers.get('x-holdfast-run-id') ?? '';
    expect(await rowOf(api, id)).toMatchObject({ state: 'completed' });
    worker = await startWorker();
    await client.workflow.getHandle(id).result();
    expect(calls()).toBe(1);
  });

  it('is not made where it is switched off', async () => {
    const off = await startGateway(yaml(OFF), 'configured', { roles: { api: true, worker: false } });
    upstream.reply = () => ({ body: openaiCompletion('by the worker') });
    const asking = off.fetch('/v1/chat/completions', { json: body });
    await eventually(async () => {
      const { id } = await newest(off);
      return client.workflow
        .getHandle(id)
        .describe()
        .then(
          ({ taskQueue }) => taskQueue === off.taskQueue,
          () => false,
        );
    });
    expect(calls()).toBe(0);
    const own = await startGateway(yaml(OFF), 'configured', {
      roles: { api: false, worker: true },
      taskQueue: off.taskQueue,
    });
    expect((await asking).status).toBe(200);
    await own.stop();
    await off.stop();
  });
});

describe('a start that Temporal refuses', () => {
  it.each([
    ['stops the call, and settles it', held, 'claimed', [CANCELLED]],
    ['is told although the answer was there', () => {}, 'succeeded', [{ n: 1, state: 'succeeded' }]],
  ])('%s', async (_name, prepare: () => unknown, until, attempts) => {
    const server = new HeldServer(inject('temporal'));
    const gateway = await startGateway(yaml(), 'configured', {
      roles: { api: true, worker: false },
      temporalAddress: await server.start(),
      env: { TEMPORAL_NAMESPACE: `missing-${crypto.randomUUID()}` },
    });
    upstream.reply = () => ({ body: openaiCompletion('early') });
    prepare();
    server.hold();
    const asking = gateway.fetch('/v1/chat/completions', { json: body });
    await eventually(async () => calls() === 1 && (await newest(gateway)).attempts[0].state === until);
    server.release();
    const response = await asking;
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBeTruthy();
    const row = await newest(gateway);
    expect(row.completed_at).toBeTruthy();
    expect(row.attempts).toMatchObject(attempts);
    await gateway.stop();
    await server.stop();
  });
});
