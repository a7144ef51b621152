import fc from 'fast-check';
import { expect, it } from 'vitest';
import { NO_USAGE } from '../../domain/money.ts';
import { NOBODY } from '../../domain/scope.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { Reservations } from '../../storage/postgres/reservations.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { insertRequest, KEY_SETTINGS, onEveryDatabase, onRealPostgres } from '../support/databases.ts';

async function makeKey(db: Sql, costCapNanos: number | null): Promise<string> {
  const { entity } = await new VirtualKeys(db).create({ ...KEY_SETTINGS, costCapNanos });
  return entity.id;
}
const spend = async (db: Sql, keyId: string) => {
  const key = await new VirtualKeys(db).get(keyId);
  return { spent: key?.spentNanos, reserved: key?.reservedNanos };
};
const requestOf = (db: Sql, keyId: string) => insertRequest(db, { attribution: { ...NOBODY, keyId } });
const reserve = (db: Sql, requestId: string, nanos: number) =>
  new Reservations(db).reserve({ requestId, nanos, priceVersion: '2026-01-01' });
const RESERVED = { reserved: true };
const exceeded = (scope: string, period: string) => ({ reserved: false, exceeded: { scope, period } });
const OVER_CAP = exceeded('key', 'monthly');

/** One call that costs `costNanos`, reserved at `maxCostNanos`. */
async function callOnce(db: Sql, requestId: string, costNanos: number, maxCostNanos: number, n = 1): Promise<void> {
  const attempts = new Attempts(db);
  const key = { requestId, targetIndex: 0, n };
  await attempts.claim({ ...key, provider: 'p', model: 'm', owner: 'o', maxCostNanos });
  const usage = { ...NO_USAGE, inputTokens: 3, outputTokens: 4 };
  await attempts.finish(key, { state: 'succeeded', latencyMs: 12, usage, costNanos });
}

onEveryDatabase('a reservation', (database) => {
  it('holds the amount until it is settled, then what was spent', async () => {
    const { db } = database;
    const key = await makeKey(db, 10_000);
    const id = await requestOf(db, key);
    expect(await reserve(db, id, 4_000)).toEqual(RESERVED);
    expect(await spend(db, key)).toEqual({ spent: 0, reserved: 4_000 });
    await callOnce(db, id, 1_234, 4_000);
    await settle(db, { requestId: id, state: 'completed' });
    expect(await spend(db, key)).toEqual({ spent: 1_234, reserved: 0 });
  });

  it('is refused when spent and reserved would pass the cap, and takes nothing then', async () => {
    const { db } = database;
    const key = await makeKey(db, 10_000);
    const ids = await Promise.all([1, 2, 3].map(() => requestOf(db, key)));
    expect(await reserve(db, ids[0] ?? '', 6_000)).toEqual(RESERVED);
    expect(await reserve(db, ids[1] ?? '', 4_001)).toEqual(OVER_CAP);
    expect(await reserve(db, ids[2] ?? '', 4_000)).toEqual(RESERVED);
    expect(await spend(db, key)).toEqual({ spent: 0, reserved: 10_000 });
    const other = await makeKey(db, 10);
    expect(await reserve(db, await requestOf(db, other), 11)).toEqual(OVER_CAP);
    expect(await spend(db, other)).toEqual({ spent: 0, reserved: 0 });
  });

  it('of a key without a cap only counts', async () => {
    const { db } = database;
    const key = await makeKey(db, null);
    const id = await requestOf(db, key);
    expect(await reserve(db, id, 5_000_000_000_000)).toEqual(RESERVED);
    await settle(db, { requestId: id, state: 'failed' });
    expect(await spend(db, key)).toEqual({ spent: 0, reserved: 0 });
  });

  it('and its settlement happen once however often they are repeated', async () => {
    const { db } = database;
    const key = await makeKey(db, 10_000);
    const id = await requestOf(db, key);
    for (let i = 0; i < 3; i += 1) expect(await reserve(db, id, 4_000)).toEqual(RESERVED);
    await callOnce(db, id, 1_000, 4_000);
    for (let i = 0; i < 3; i += 1) await settle(db, { requestId: id, state: 'completed' });
    expect(await spend(db, key)).toEqual({ spent: 1_000, reserved: 0 });
  });

  it('grows before a further call when an earlier one may have been billed, or refuses it', async () => {
    const { db } = database;
    const reservations = new Reservations(db);
    const attempts = new Attempts(db);
    const key = await makeKey(db, 10_000);
    const id = await requestOf(db, key);
    await reserve(db, id, 4_000);
    const lost = { requestId: id, targetIndex: 0, n: 1 };
    await attempts.claim({ ...lost, provider: 'p', model: 'm', owner: 'o', maxCostNanos: 4_000 });
    await attempts.markUnknown(lost);
    expect(await reservations.cover(id, 4_000)).toEqual(RESERVED);
    expect(await spend(db, key)).toEqual({ spent: 0, reserved: 8_000 });
    expect(await reservations.cover(id, 4_000)).toEqual(RESERVED);
    expect(await spend(db, key)).toEqual({ spent: 0, reserved: 8_000 });
    expect(await reservations.cover(id, 6_001)).toEqual(OVER_CAP);
    await callOnce(db, id, 500, 4_000, 2);
    await settle(db, { requestId: id, state: 'completed' });
    expect(await spend(db, key)).toEqual({ spent: 4_500, reserved: 0 });
  });

  it('needs no growth after calls that cost nothing, nor for the master key', async () => {
    const { db } = database;
    const reservations = new Reservations(db);
    const key = await makeKey(db, 4_000);
    const id = await requestOf(db, key);
    await reserve(db, id, 4_000);
    const attempts = new Attempts(db);
    const failed = { requestId: id, targetIndex: 0, n: 1 };
    await attempts.claim({ ...failed, provider: 'p', model: 'm', owner: 'o', maxCostNanos: 4_000 });
    await attempts.finish(failed, { state: 'failed', latencyMs: 1, usage: null, costNanos: 0 });
    expect(await reservations.cover(id, 4_000)).toEqual(RESERVED);
    expect(await reservations.cover(await insertRequest(db), 1e12)).toEqual(RESERVED);
  });
});

onEveryDatabase('a settlement', (database) => {
  it('closes the ledger row with the winner’s figures and the cost of all attempts', async () => {
    const { db } = database;
    const attempts = new Attempts(db);
    const id = await insertRequest(db);
    const first = { requestId: id, targetIndex: 0, n: 1 };
    await attempts.claim({ ...first, provider: 'a', model: 'x', owner: 'o', maxCostNanos: 900 });
    await attempts.markUnknown(first);
    const second = { requestId: id, targetIndex: 1, n: 1 };
    await attempts.claim({ ...second, provider: 'b', model: 'y', owner: 'o', maxCostNanos: 900 });
    const usage = { ...NO_USAGE, inputTokens: 3, outputTokens: 4 };
    await attempts.finish(second, { state: 'succeeded', latencyMs: 12.6, usage, costNanos: 100 });
    await settle(db, { requestId: id, state: 'completed' });
    const row = await db.selectFrom('llm_requests').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    expect(row).toMatchObject({
      state: 'completed',
      status: 'fallback',
      provider_used: 'b',
      model_used: 'y',
      latency_ms: 13,
      prompt_tokens: 3,
      completion_tokens: 4,
      total_tokens: 7,
      cost_nanos: 1_000,
      cost_usd: '0.000001000',
    });
  });

  it('books an attempt that nobody finished at its maximum', async () => {
    const { db } = database;
    const key = await makeKey(db, 10_000);
    const id = await requestOf(db, key);
    await reserve(db, id, 900);
    const attempts = new Attempts(db);
    await attempts.claim({
      requestId: id,
      targetIndex: 0,
      n: 1,
      provider: 'a',
      model: 'x',
      owner: 'o',
      maxCostNanos: 900,
    });
    const error = { code: 'gateway_cancelled', message: 'The request was cancelled.' } as const;
    await settle(db, { requestId: id, state: 'cancelled', error });
    expect((await attempts.ofTarget({ requestId: id, targetIndex: 0 }))[0]?.state).toBe('unknown');
    expect(await spend(db, key)).toEqual({ spent: 900, reserved: 0 });
    const row = await db.selectFrom('llm_requests').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    expect(row).toMatchObject({
      state: 'cancelled',
      status: 'failure',
      error_code: 'gateway_cancelled',
      model_used: null,
    });
  });
});

onRealPostgres('money under concurrency', (database) => {
  it('never passes the cap, and nothing stays reserved', async () => {
    const { db } = database;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 5_000 }),
        fc.array(
          fc.record({ max: fc.integer({ min: 1, max: 800 }), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
          {
            minLength: 1,
            maxLength: 24,
          },
        ),
        async (cap, calls) => {
          const key = await makeKey(db, cap);
          let expected = 0;
          await Promise.all(
            calls.map(async ({ max, part }) => {
              const id = await requestOf(db, key);
              const cost = Math.floor(max * part);
              if ((await reserve(db, id, max)).reserved) {
                await callOnce(db, id, cost, max);
                expected += cost;
              }
              const { spent = 0, reserved = 0 } = await spend(db, key);
              expect(spent + reserved).toBeLessThanOrEqual(cap);
              await Promise.all([1, 2].map(() => settle(db, { requestId: id, state: 'completed' })));
            }),
          );
          expect(await spend(db, key)).toEqual({ spent: expected, reserved: 0 });
          const ledger = await db
            .selectFrom('llm_requests')
            .select((eb) => eb.fn.sum<string>('cost_nanos').as('sum'))
            .where('virtual_key_id', '=', key)
            .executeTakeFirstOrThrow();
          expect(Number(ledger.sum)).toBe(expected);
        },
      ),
      { numRuns: 15 },
    );
  });

  it('reserves a request once when its reservation is repeated at the same moment', async () => {
    const { db } = database;
    for (let round = 0; round < 20; round += 1) {
      const key = await makeKey(db, 10_000);
      const id = await requestOf(db, key);
      const results = await Promise.all(Array.from({ length: 6 }, () => reserve(db, id, 3_000)));
      expect(results).toEqual(Array(6).fill(RESERVED));
      expect(await spend(db, key)).toEqual({ spent: 0, reserved: 3_000 });
    }
  });
});
