import { join } from 'node:path';
import { Client, Connection, WorkflowFailedError } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Worker } from '@temporalio/worker';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { webhook } from '../../workflows/webhook.ts';
import { FixtureServer, type Received } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { connectWebhooks, RECEIVER_SECRET, type RecordedWebhooks } from '../support/webhooks.ts';

const ANNOUNCING = join(import.meta.dirname, '..', 'support', 'announcing-workflow.ts');

describe('webhooks of runs', () => {
  const receiver = new FixtureServer();
  let gateway: TestGateway;
  let recorded: RecordedWebhooks;
  let connection: Connection;
  let client: Client;
  beforeAll(async () => {
    await receiver.start();
    gateway = await startGateway(
      `
providers: { demo: { type: demo } }
webhooks: { timeout: 1, allowed_private_hosts: [127.0.0.1] }
`,
      'configured',
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

  const start = (workflowId: string) =>
    client.workflow.start<typeof webhook>('webhook', { workflowId, taskQueue: gateway.taskQueue, args: [workflowId] });
  const verified = ({ headers, body }: Received) =>
    new Webhook(RECEIVER_SECRET).verify(JSON.stringify(body), headers as Record<string, string>);
  const delivery = (id: string) => recorded.webhooks.get(id, undefined);

  it('are repeated until they are taken, signed, with the same id and the same bytes', async () => {
    receiver.reply = () => ({ status: receiver.received.length === 1 ? 500 : 204 });
    const id = await recorded.record(`${receiver.url}/runs?token=t`, { data: { run_id: 'run-1', cost_usd: 0.25 } });
    expect(await (await start(id)).result()).toBe('delivered');
    expect(receiver.received.map(({ path, headers }) => [path, headers['webhook-id']])).toEqual([
      ['/runs?token=t', id],
      ['/runs?token=t', id],
    ]);
    const [first, second] = receiver.received.map(verified);
    expect(first).toEqual({
      type: 'run.completed',
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      data: { run_id: 'run-1', cost_usd: 0.25 },
    });
    expect(second).toEqual(first);
    const stamps = receiver.received.map(({ headers }) => Number(headers['webhook-timestamp']));
    expect(stamps[1]).toBeGreaterThan(stamps[0] ?? Number.POSITIVE_INFINITY);
    expect(await delivery(id)).toMatchObject({
      state: 'delivered',
      deliveredAt: expect.any(Date),
      attempts: [
        { n: 1, status: 500, error: null },
        { n: 2, status: 204, error: null },
      ],
    });
  });

  it('are sent no second time by a workflow that is run again', async () => {
    receiver.reply = () => ({ status: 204 });
    const id = await recorded.record(receiver.url);
    expect(await (await start(id)).result()).toBe('delivered');
    expect(await (await start(id)).result()).toBe('obsolete');
    expect(receiver.received).toHaveLength(1);
  });

  it.each([
    ['whose receiver is gone', 410, () => receiver.url, { status: 410, error: null }],
    ['to what is not a public address', 200, () => 'http://127.0.0.2/', { status: null }],
  ])('%s fail at once', async (_case, status, url, attempt) => {
    receiver.reply = () => ({ status });
    const id = await recorded.record(url());
    await expect((await start(id)).result()).rejects.toThrow(WorkflowFailedError);
    expect(receiver.received).toHaveLength(status === 410 ? 1 : 0);
    const { state, attempts } = (await delivery(id)) ?? {};
    expect(state).toBe('failed');
    expect(attempts).toMatchObject([attempt]);
    if (attempt.status === null) expect(attempts?.[0]?.error).toContain('not public');
  });

  it('are announced by a run that does not wait for them, once', async () => {
    const taskQueue = `test-${crypto.randomUUID()}`;
    const workerConnection = await NativeConnection.connect({ address: inject('temporal') });
    const announcer = await Worker.create({
      connection: workerConnection,
      taskQueue,
      workflowBundle: await bundleWorkflowCode({ workflowsPath: ANNOUNCING, logger: new DefaultLogger('ERROR') }),
    });
    const ids = [await recorded.record(receiver.url), await recorded.record(receiver.url)];
    const announce = () =>
      client.workflow.execute('announcing', { workflowId: `announcing-${ids[0]}`, taskQueue, args: [ids] });
    await announcer.runUntil(async () => {
      await announce();
      await announce();
    });
    await workerConnection.close();
    for (const id of ids) {
      const { status, type, raw } = await client.workflow.getHandle(id).describe();
      expect([status.name, type, raw.pendingActivities?.length]).toEqual(['RUNNING', 'webhook', 1]);
    }
  });

  /** When Temporal tries again, in milliseconds after the try. */
  const nextTry = async (id: string): Promise<number> => {
    const pending = await eventually(async () => {
      const { raw } = await client.workflow.getHandle(id).describe();
      const [activity] = raw.pendingActivities ?? [];
      return activity?.lastFailure && activity.nextAttemptScheduleTime && activity;
    });
    const ms = (time: { seconds?: unknown } | null | undefined) => Number(time?.seconds) * 1000;
    return ms(pending.nextAttemptScheduleTime) - ms(pending.lastAttemptCompleteTime);
  };

  it('follow no redirect, come back when the receiver says, and fail when they are cancelled', async () => {
    const answers = [
      { reply: { status: 302, headers: { location: `${receiver.url}/elsewhere` } }, waitMs: 5_000 },
      { reply: { status: 503, headers: { 'retry-after': '600' } }, waitMs: 600_000 },
      { reply: { status: 429, headers: { 'retry-after': '1' } }, waitMs: 5_000 },
      { reply: { delayMs: 3_000 }, waitMs: 5_000 },
    ];
    receiver.reply = ({ path }) => answers[Number(path.slice(1))]?.reply ?? {};
    await Promise.all(
      answers.map(async ({ waitMs }, n) => {
        const id = await recorded.record(`${receiver.url}/${n}`);
        const handle = await start(id);
        const found = await nextTry(id);
        expect(Math.abs(found - waitMs)).toBeLessThanOrEqual(1_000);
        await handle.cancel();
        await expect(handle.result()).rejects.toThrow(WorkflowFailedError);
        expect(await delivery(id)).toMatchObject({ state: 'failed' });
      }),
    );
    expect(receiver.received.map(({ path }) => path)).not.toContain('/elsewhere');
  });
});
