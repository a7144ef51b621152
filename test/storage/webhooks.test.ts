import { sql } from 'kysely';
import { expect, it } from 'vitest';
import { createCipher } from '../../storage/cipher.ts';
import { type NewWebhookDelivery, Webhooks } from '../../storage/postgres/webhooks.ts';
import { ENCRYPTION_KEY, onEveryDatabase } from '../support/databases.ts';

const SECRET = 'whsec_cGxhbnRlZCBzZWNyZXQgb2YgYSByZWNlaXZlcg==';

onEveryDatabase('webhooks', (database) => {
  const webhooks = () => new Webhooks(database.db, createCipher(ENCRYPTION_KEY));
  const deliveryOf = (overrides: Partial<NewWebhookDelivery> = {}): NewWebhookDelivery => ({
    runId: `run-${crypto.randomUUID()}`,
    owner: 'team:red',
    project: null,
    type: 'run.completed',
    occurrence: 1,
    at: new Date('2026-01-02T03:04:05.678Z'),
    data: { answer: 'planted answer' },
    url: 'https://hooks.example.com/runs?token=planted-token',
    secret: SECRET,
    ...overrides,
  });
  const record = (overrides?: Partial<NewWebhookDelivery>) => webhooks().record(database.db, deliveryOf(overrides));
  const attempt = { at: new Date('2026-01-02T03:04:06Z'), status: 500, error: null, latencyMs: 12 };

  it('are there with the transaction that recorded them, or not at all', async () => {
    const [kept, lost] = [deliveryOf(), deliveryOf()];
    const id = await database.db.transaction().execute((transaction) => webhooks().record(transaction, kept));
    const failing = database.db.transaction().execute(async (transaction) => {
      await webhooks().record(transaction, lost);
      throw new Error('undone');
    });
    await expect(failing).rejects.toThrow('undone');
    const listed = (runId: string) => webhooks().list({ runId, visible: undefined, limit: 10 });
    expect(await listed(kept.runId)).toMatchObject([{ id, state: 'pending', deliveredAt: null, attempts: [] }]);
    expect(await listed(lost.runId)).toEqual([]);
  });

  it('are recorded once for a run, type and occurrence, as they were first', async () => {
    const first = deliveryOf({ type: 'run.input_required' });
    const id = await webhooks().record(database.db, first);
    expect(id).toMatch(/^evt-/);
    expect(await webhooks().record(database.db, { ...first, data: { answer: 'another' } })).toBe(id);
    expect((await webhooks().open(id, 1))?.body).toBe(
      '{"type":"run.input_required","timestamp":"2026-01-02T03:04:05.678Z","data":{"answer":"planted answer"}}',
    );
    const others = [{ occurrence: 2 }, { type: 'run.failed' as const }, { runId: 'another' }];
    for (const other of others) expect(await webhooks().record(database.db, { ...first, ...other })).not.toBe(id);
  });

  it('are stored sealed: neither secret nor payload nor the URL’s query', async () => {
    const id = await record();
    const { rows } = await sql<{ row: string }>`
      SELECT d::text || encode(d.receiver, 'escape') || encode(d.payload, 'escape') AS row
      FROM webhook_deliveries d WHERE id = ${id}`.execute(database.db);
    expect(rows[0]?.row).toContain('https://hooks.example.com/runs');
    for (const planted of [SECRET, SECRET.slice(6), 'planted']) expect(rows[0]?.row).not.toContain(planted);
    expect(await webhooks().get(id, undefined)).toMatchObject({ url: 'https://hooks.example.com/runs' });
    const { url, secret } = (await webhooks().open(id, 1)) ?? {};
    expect([url, secret]).toEqual(['https://hooks.example.com/runs?token=planted-token', SECRET]);
  });

  it('tell of every try, and are over with the one that was taken', async () => {
    const id = await record();
    await webhooks().journal(id, { ...attempt, delivered: false });
    expect(await webhooks().get(id, undefined)).toMatchObject({ state: 'pending', deliveredAt: null });
    await webhooks().journal(id, { ...attempt, status: null, error: 'timeout', delivered: false });
    await webhooks().journal(id, { ...attempt, status: 204, delivered: true });
    const { state, deliveredAt, attempts } = (await webhooks().get(id, undefined)) ?? {};
    expect([state, deliveredAt]).toEqual(['delivered', expect.any(Date)]);
    expect(attempts).toEqual([
      { n: 1, ...attempt },
      { n: 2, ...attempt, status: null, error: 'timeout' },
      { n: 3, ...attempt, status: 204 },
    ]);
    expect(await webhooks().open(id, 1)).toBeUndefined();
    await webhooks().fail(id, 1);
    expect(await webhooks().get(id, undefined)).toMatchObject({ state: 'delivered' });
  });

  it('are sent again under a new number, unless they are pending', async () => {
    const id = await record();
    expect(await webhooks().resend(id)).toBe(1);
    await webhooks().fail(id, 1);
    expect(await webhooks().get(id, undefined)).toMatchObject({ state: 'failed' });
    expect(await webhooks().open(id, 1)).toBeUndefined();
    expect(await webhooks().resend(id)).toBe(2);
    expect(await webhooks().resend(id)).toBe(2);
    expect(await webhooks().open(id, 1)).toBeUndefined();
    expect(await webhooks().open(id, 2)).toMatchObject({ id });
    // What is left of the first send ends nothing any more.
    await webhooks().fail(id, 1);
    expect(await webhooks().get(id, undefined)).toMatchObject({ state: 'pending' });
    await webhooks().journal(id, { ...attempt, delivered: true });
    expect(await webhooks().resend(id)).toBe(3);
    expect(await webhooks().get(id, undefined)).toMatchObject({ state: 'pending', deliveredAt: null });
  });

  it('are seen by their owner, and in a project by the project only', async () => {
    const runId = `run-${crypto.randomUUID()}`;
    const id = await record({ runId, project: 'search' });
    const seen = [undefined, { owner: 'team:red' }, { owner: 'team:red', project: 'search' }];
    const hidden = [{ owner: 'team:blue' }, { owner: 'team:red', project: 'ads' }];
    for (const visible of seen) {
      expect(await webhooks().get(id, visible)).toMatchObject({ id, runId });
      expect(await webhooks().list({ runId, visible, limit: 10 })).toHaveLength(1);
    }
    for (const visible of hidden) {
      expect(await webhooks().get(id, visible)).toBeUndefined();
      expect(await webhooks().list({ runId, visible, limit: 10 })).toEqual([]);
    }
  });

  it('are listed newest first, page by page', async () => {
    const runId = `run-${crypto.randomUUID()}`;
    const ids: string[] = [];
    for (const occurrence of [1, 2, 3]) ids.unshift(await record({ runId, type: 'run.input_required', occurrence }));
    const page = (cursor?: string) => webhooks().list({ runId, visible: undefined, limit: 2, cursor });
    expect((await page()).map(({ id }) => id)).toEqual(ids.slice(0, 2));
    expect((await page(ids[1])).map(({ id }) => id)).toEqual(ids.slice(2));
  });
});
