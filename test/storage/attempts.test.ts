import { expect, it } from 'vitest';
import { newId } from '../../domain/ids.ts';
import { NO_USAGE } from '../../domain/money.ts';
import { createCipher } from '../../storage/cipher.ts';
import { Attempts, type Claim } from '../../storage/postgres/attempts.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import { Processes } from '../../storage/postgres/processes.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { ENCRYPTION_KEY, insertRequest, onEveryDatabase, onRealPostgres } from '../support/databases.ts';

const claimOf = (requestId: string, overrides: Partial<Claim> = {}): Claim => ({
  requestId,
  targetIndex: 0,
  n: 1,
  provider: 'p',
  model: 'm',
  owner: 'proc-1',
  maxCostNanos: 1_000,
  ...overrides,
});
const usage = { ...NO_USAGE, inputTokens: 10, outputTokens: 5 };

onEveryDatabase('attempts', (database) => {
  it('are claimed once', async () => {
    const attempts = new Attempts(database.db);
    const id = await insertRequest(database.db);
    expect(await attempts.claim(claimOf(id))).toBe('claimed');
    expect(await attempts.claim(claimOf(id, { owner: 'proc-2' }))).toBe('taken');
    expect(await attempts.claim(claimOf(id, { n: 2 }))).toBe('claimed');
    expect((await attempts.ofTarget({ requestId: id, targetIndex: 0 })).map(({ n, state }) => [n, state])).toEqual([
      [1, 'claimed'],
      [2, 'claimed'],
    ]);
  });

  it('are not claimed for a request that is settled or does not exist', async () => {
    const attempts = new Attempts(database.db);
    const id = await insertRequest(database.db);
    await settle(database.db, { requestId: id, state: 'cancelled' });
    expect(await attempts.claim(claimOf(id))).toBe('closed');
    expect(await attempts.claim(claimOf('chatcmpl-none'))).toBe('closed');
  });

  it('keep their outcome and the answer, and add up', async () => {
    const attempts = new Attempts(database.db);
    const bodies = new Bodies(database.db, createCipher(ENCRYPTION_KEY));
    const id = await insertRequest(database.db);
    await attempts.claim(claimOf(id));
    const error = { code: 'provider_rate_limited', message: 'slow', retryAfterMs: 12.5, providerStatus: 429 } as const;
    await attempts.finish(claimOf(id), { state: 'failed', latencyMs: 1.4, usage: null, costNanos: 7, error });
    await attempts.claim(claimOf(id, { targetIndex: 1 }));
    const response = bodies.seal({ hello: id });
    expect(
      await attempts.finish(claimOf(id, { targetIndex: 1 }), {
        state: 'succeeded',
        latencyMs: 20,
        usage,
        costNanos: 30,
        response,
      }),
    ).toEqual({ accepted: true, attempts: 2, costNanos: 37 });
    expect(await attempts.totals(id)).toEqual({ attempts: 2, costNanos: 37 });
    const [failed] = await attempts.ofTarget({ requestId: id, targetIndex: 0 });
    expect(failed).toMatchObject({ state: 'failed', error: { ...error, retryAfterMs: 13 } });
    const [won] = await attempts.ofTarget({ requestId: id, targetIndex: 1 });
    expect(won).toMatchObject({ state: 'succeeded', latencyMs: 20, responseRef: response.ref, error: null });
    const elsewhere = new Bodies(database.db, createCipher(ENCRYPTION_KEY));
    expect(await elsewhere.get(response.ref)).toEqual({ hello: id });
  });

  it('that were given up stay unknown at their maximum when their outcome comes late', async () => {
    const attempts = new Attempts(database.db);
    const id = await insertRequest(database.db);
    await attempts.claim(claimOf(id));
    await attempts.markUnknown(claimOf(id));
    const late = await attempts.finish(claimOf(id), { state: 'succeeded', latencyMs: 5, usage, costNanos: 30 });
    expect(late).toEqual({ accepted: false });
    expect(await attempts.totals(id)).toEqual({ attempts: 1, costNanos: 1_000 });
    const row = await database.db
      .selectFrom('attempts')
      .selectAll()
      .where('request_id', '=', id)
      .executeTakeFirstOrThrow();
    expect(row).toMatchObject({ state: 'unknown', prompt_tokens: 10, completion_tokens: 5, latency_ms: 5 });
  });

  it('are not given up once their outcome is there', async () => {
    const attempts = new Attempts(database.db);
    const id = await insertRequest(database.db);
    await attempts.claim(claimOf(id));
    await attempts.finish(claimOf(id), { state: 'succeeded', latencyMs: 5, usage, costNanos: 30 });
    await attempts.markUnknown(claimOf(id));
    expect((await attempts.ofTarget({ requestId: id, targetIndex: 0 }))[0]?.state).toBe('succeeded');
  });

  it('know whether the process that claimed them lives', async () => {
    const attempts = new Attempts(database.db);
    const processes = new Processes(database.db);
    const owner = newId('proc');
    const id = await insertRequest(database.db);
    await attempts.claim(claimOf(id, { owner }));
    const alive = async () => (await attempts.ofTarget({ requestId: id, targetIndex: 0 }))[0]?.ownerAlive;
    expect(await alive()).toBe(false);
    await processes.renew(owner);
    expect(await alive()).toBe(true);
    await processes.remove(owner);
    expect(await alive()).toBe(false);
  });
});

onRealPostgres('the race for a claim', (database) => {
  it('has one winner', async () => {
    const attempts = new Attempts(database.db);
    for (let round = 0; round < 20; round += 1) {
      const id = await insertRequest(database.db);
      const owners = Array.from({ length: 8 }, (_, i) => `proc-${i}`);
      const results = await Promise.all(owners.map((owner) => attempts.claim(claimOf(id, { owner }))));
      expect(results.filter((result) => result === 'claimed')).toHaveLength(1);
    }
  });

  it('against a settlement ends with no attempt unaccounted for', async () => {
    const attempts = new Attempts(database.db);
    for (let round = 0; round < 30; round += 1) {
      const id = await insertRequest(database.db);
      const [claimed] = await Promise.all([
        attempts.claim(claimOf(id)),
        settle(database.db, { requestId: id, state: 'failed' }),
      ]);
      const row = await database.db
        .selectFrom('llm_requests')
        .select('cost_nanos')
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      const states = (await attempts.ofTarget({ requestId: id, targetIndex: 0 })).map(({ state }) => state);
      if (claimed === 'closed') expect([states, row.cost_nanos]).toEqual([[], 0]);
      else expect([states, row.cost_nanos]).toEqual([['unknown'], 1_000]);
    }
  });
});
