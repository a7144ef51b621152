import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Agency } from '../support/agents.ts';
import { eventually, type Json, MASTER_KEY } from '../support/gateway.ts';
import { canSplit, SplitGateway } from '../support/split-gateway.ts';

const RUNS = 500;
const TIMED = 50;
const AT_ONCE = 20;

/** Does `work` for each, some at a time. */
async function each<T, R>(items: readonly T[], work: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      const index = next;
      next += 1;
      results[index] = await work(items[index] as T, index);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return results;
}

describe.skipIf(!canSplit)('five hundred runs that wait for approval while the gateway is restarted', () => {
  let gateway: SplitGateway;
  let agency: Agency;
  beforeAll(async () => {
    gateway = await new SplitGateway('providers:\n  demo: { type: demo, default_model: demo }\n').migrate();
    agency = new Agency(gateway);
  });
  afterAll(() => gateway?.stop());

  const pending = async (): Promise<Json[]> => {
    const found: Json[] = [];
    for (let cursor = ''; ; ) {
      const { data, next_cursor } = await gateway.json(`/approvals/pending?limit=500${cursor}`);
      found.push(...data);
      if (!next_cursor) return found;
      cursor = `&cursor=${next_cursor}`;
    }
  };
  const vote = async (approval_id: string, decision: string): Promise<number> => {
    const response = await fetch(`${gateway.url}/approvals`, {
      method: 'POST',
      headers: { authorization: `Bearer ${MASTER_KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ approval_id, decision }),
    });
    return response.status;
  };

  it('are all decided afterwards, each exactly once; timeouts fire in time', async () => {
    const api = await gateway.startApi();
    const worker = await gateway.startWorker();
    const ask = { pattern: 'human_in_loop', title: 'ok?' };
    const ids = (await each(Array.from({ length: RUNS }), () => agency.start(ask))).map(({ id }) => id as string);
    await eventually(async () => (await pending()).length === RUNS, 120_000);

    await Promise.all([api.kill('SIGKILL'), worker.kill('SIGKILL')]);
    await gateway.startApi();
    await gateway.startWorker();
    const waiting = await pending();
    expect(waiting).toHaveLength(RUNS);
    // Two voters for each, at the same time.
    const statuses = await each(waiting, ({ id }) => Promise.all([vote(id, 'approve'), vote(id, 'approve')]));
    expect(statuses.map((both) => both.toSorted())).toEqual(Array(RUNS).fill([200, 409]));
    const ended = await each(ids, (id) => agency.ended(id));
    expect(ended.every(({ status, output }) => status === 'completed' && output === 'the input')).toBe(true);
    expect(await pending()).toEqual([]);
    expect(await vote(waiting[0].id, 'reject')).toBe(409);

    const timed = { ...ask, approval: { timeout: 5, on_timeout: 'approve' } };
    const started = await each(Array.from({ length: TIMED }), () => agency.start(timed));
    const late = await each(started, async ({ id }) => {
      const { approvals } = await agency.ended(id);
      const approval = await gateway.json(`/approvals/${approvals[0].id}`);
      expect(approval.status).toBe('expired');
      return approval.decided_at - approval.expires_at;
    });
    expect(Math.max(...late)).toBeLessThanOrEqual(2);
  }, 400_000);
});
