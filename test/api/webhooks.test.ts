import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { connectWebhooks, RECEIVER_SECRET, type RecordedWebhooks } from '../support/webhooks.ts';

const receiver = new FixtureServer();
let log = '';
let gateway: TestGateway;
let recorded: RecordedWebhooks;
let connection: Connection;
let client: Client;
beforeAll(async () => {
  await receiver.start();
  const write = (line: string) => {
    log += line;
  };
  gateway = await startGateway(
    'providers: { demo: { type: demo } }\nwebhooks: { allowed_private_hosts: [127.0.0.0/8] }',
    'configured',
    { logger: pino({ level: 'trace' }, { write }) },
  );
  recorded = await connectWebhooks();
  connection = await Connection.connect({ address: inject('temporal') });
  client = new Client({ connection });
});
beforeEach(() => receiver.reset());
afterAll(async () => {
  await gateway.stop();
  await recorded.close();
  await connection.close();
  await receiver.stop();
});

const unique = () => crypto.randomUUID();
const makeKey = async (settings: object): Promise<string> =>
  (await gateway.json('/config/virtual-keys', { json: { name: 'k', ...settings } })).key;
const resend = (id: string, key?: string) =>
  gateway.fetch(`/v1/webhooks/deliveries/${id}/resend`, { method: 'POST', ...(key && { key }) });
const read = (id: string): Promise<Json> => gateway.json(`/v1/webhooks/deliveries/${id}`);
const ended = (id: string, state: string) => eventually(async () => (await read(id)).state === state && read(id));

describe('a webhook delivery', () => {
  it('that nobody works on is sent when its owner asks, and again after it was delivered', async () => {
    receiver.reply = () => ({ status: 204 });
    const runId = `run-${unique()}`;
    const id = await recorded.record(`${receiver.url}/a?token=planted-token`, { runId });
    const asked = await resend(id);
    expect(asked.status).toBe(202);
    expect(await asked.json()).toMatchObject({ id, object: 'webhook.delivery', run_id: runId });
    const first = await ended(id, 'delivered');
    const now = Date.now() / 1000;
    expect(first).toEqual({
      id,
      object: 'webhook.delivery',
      run_id: runId,
      type: 'run.completed',
      url: `${receiver.url}/a`,
      state: 'delivered',
      created_at: expect.any(Number),
      delivered_at: expect.any(Number),
      attempts: [{ n: 1, at: expect.any(Number), status: 204, error: null, latency_ms: expect.any(Number) }],
    });
    for (const at of [first.created_at, first.delivered_at, first.attempts[0].at]) {
      expect(Math.abs(now - at)).toBeLessThan(60);
    }
    expect((await resend(id)).status).toBe(202);
    await eventually(async () => (await read(id)).attempts.length === 2);
    expect(await ended(id, 'delivered')).toMatchObject({ attempts: [{ n: 1 }, { n: 2, status: 204 }] });
    const [one, two] = receiver.received;
    expect([one?.headers['webhook-id'], two?.headers['webhook-id']]).toEqual([id, id]);
    expect(two?.body).toEqual(one?.body);
    new Webhook(RECEIVER_SECRET).verify(JSON.stringify(two?.body), two?.headers as Record<string, string>);
  });

  it('that failed is sent again', async () => {
    receiver.reply = () => ({ status: receiver.received.length === 1 ? 410 : 200 });
    const id = await recorded.record(receiver.url);
    await resend(id);
    await ended(id, 'failed');
    expect((await resend(id)).status).toBe(202);
    await ended(id, 'delivered');
  });

  it('that is under way is not sent twice at once', async () => {
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    receiver.reply = () => ({ status: 204, until });
    const id = await recorded.record(receiver.url);
    const answers = await Promise.all([resend(id), resend(id), resend(id)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
    expect(await (await resend(id)).json()).toMatchObject({ error: { code: 'conflict' } });
    release();
    await ended(id, 'delivered');
    expect(receiver.received).toHaveLength(1);
  });

  it('is shown and sent for who sees the run, and is not there for others', async () => {
    receiver.reply = () => ({ status: 204 });
    const team = unique();
    const runId = `run-${unique()}`;
    await recorded.storeRun(runId, `team:${team}`, 'search');
    const id = await recorded.record(receiver.url, { runId, owner: `team:${team}`, project: 'search' });
    const [lead, mate] = [await makeKey({ team }), await makeKey({ team, project: 'search' })];
    for (const key of [lead, mate, undefined]) {
      const init = key === undefined ? {} : { key };
      expect(await gateway.json(`/v1/webhooks/deliveries/${id}`, init)).toMatchObject({ id });
      expect((await gateway.json(`/v1/jobs/${runId}/webhooks`, init)).data).toMatchObject([{ id }]);
    }
    const outsiders = [{ team: unique() }, { team: unique(), roles: ['admin'] }, {}, { team, project: `ads-${team}` }];
    for (const settings of outsiders) {
      const key = await makeKey(settings);
      const answer = await gateway.fetch(`/v1/webhooks/deliveries/${id}`, { key });
      expect([answer.status, ((await answer.json()) as Json).error.code]).toEqual([404, 'not_found']);
      expect((await resend(id, key)).status).toBe(404);
      expect((await gateway.fetch(`/v1/jobs/${runId}/webhooks`, { key })).status).toBe(404);
    }
    expect(receiver.received).toEqual([]);
    expect((await resend('evt-none')).status).toBe(404);
    expect((await resend(id, await makeKey({ team, roles: ['viewer'] }))).status).toBe(403);
  });

  it('is found page by page', async () => {
    const runId = `run-${unique()}`;
    await recorded.storeRun(runId);
    const ids: string[] = [];
    for (const occurrence of [1, 2, 3]) ids.unshift(await recorded.record(receiver.url, { runId, occurrence }));
    const first = await gateway.json(`/v1/jobs/${runId}/webhooks?limit=2`);
    expect(first.data.map(({ id }: Json) => id)).toEqual(ids.slice(0, 2));
    const second = await gateway.json(`/v1/jobs/${runId}/webhooks?limit=2&cursor=${first.next_cursor}`);
    expect(second).toMatchObject({ data: [{ id: ids[2] }], next_cursor: null });
  });

  it('tells its secret, its payload and the URL’s query to nobody but the receiver', async () => {
    receiver.reply = () => ({ status: 410, body: { echo: 'planted-answer' } });
    const secret = `whsec_${Buffer.from(`planted ${unique()} secret`).toString('base64')}`;
    const url = `${receiver.url}/a?token=planted-token`;
    const id = await recorded.record(url, { secret, data: { text: 'planted-payload' } });
    await resend(id);
    const shown = JSON.stringify(await ended(id, 'failed'));
    const { history } = await eventually(async () => {
      const handle = client.workflow.getHandle(id);
      const { status } = await handle.describe();
      return status.name === 'FAILED' && { history: await handle.fetchHistory() };
    });
    const payloads = JSON.stringify(history, (_name, value: unknown) =>
      (value as { type?: string } | null)?.type === 'Buffer' || value instanceof Uint8Array
        ? Buffer.from(value as Uint8Array).toString()
        : value,
    );
    expect(payloads).toContain(id);
    const tables = await Promise.all(['webhook_deliveries', 'webhook_attempts'].map((name) => recorded.textOf(name)));
    for (const text of [shown, payloads, log, ...tables]) {
      expect(text.length).toBeGreaterThan(100);
      for (const planted of [secret.slice(6), Buffer.from(secret).toString('hex'), 'planted-']) {
        expect(text).not.toContain(planted);
      }
    }
  });
});
