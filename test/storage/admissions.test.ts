import { expect, it } from 'vitest';
import { newId } from '../../domain/ids.ts';
import { NO_USAGE } from '../../domain/money.ts';
import { NOBODY } from '../../domain/scope.ts';
import { Admissions, type FirstCall } from '../../storage/postgres/admissions.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import { Budgets } from '../../storage/postgres/budgets.ts';
import { finishAndSettle, settle } from '../../storage/postgres/settlement.ts';
import { insertRequest, newRequest, onEveryDatabase, onRealPostgres, type TestDatabase } from '../support/databases.ts';

const firstCall = (requestId: string, nanos = 10): FirstCall => ({
  reservation: { requestId, nanos, priceVersion: 'x' },
  claim: { requestId, targetIndex: 0, n: 1, provider: 'p', model: 'm', owner: 'proc-1', maxCostNanos: nanos },
});
const newTeam = async ({ db }: TestDatabase, limitNanos: number) => {
  const team = newId('vk');
  const budget = await new Budgets(db).create({
    scope: { type: 'team', id: team },
    period: 'daily',
    kind: 'hard',
    limitNanos,
  });
  return { team, budgetId: budget?.id ?? '' };
};
const requestOf = ({ db }: TestDatabase, team: string) => newRequest(db, { attribution: { ...NOBODY, team } });
const budgetOf = async ({ db }: TestDatabase, id: string) => {
  const budget = await new Budgets(db).get(id);
  return { spent: budget?.spentNanos, reserved: budget?.reservedNanos };
};
const attemptsOf = ({ db }: TestDatabase, requestId: string) =>
  db.selectFrom('attempts').selectAll().where('request_id', '=', requestId).execute();

onEveryDatabase('a request let in with its first call', (database) => {
  it('is reserved and claimed once, however often it asks', async () => {
    const { team, budgetId } = await newTeam(database, 100);
    const id = await insertRequest(database.db, { attribution: { ...NOBODY, team } });
    const admissions = new Admissions(database.db);
    expect(await admissions.admit(firstCall(id))).toEqual({ state: 'claimed' });
    expect(await admissions.admit(firstCall(id))).toEqual({ state: 'taken' });
    expect(await budgetOf(database, budgetId)).toEqual({ spent: 0, reserved: 10 });
    expect(await attemptsOf(database, id)).toMatchObject([{ state: 'claimed', max_cost_nanos: 10 }]);
    await settle(database.db, { requestId: id, state: 'cancelled' });
    expect(await admissions.admit(firstCall(id))).toEqual({ state: 'closed' });
  });

  it('is not claimed when a budget does not cover it, and named', async () => {
    const { team, budgetId } = await newTeam(database, 9);
    const id = await insertRequest(database.db, { attribution: { ...NOBODY, team } });
    expect(await new Admissions(database.db).admit(firstCall(id))).toEqual({
      state: 'refused',
      exceeded: { scope: 'team', period: 'daily' },
    });
    expect(await attemptsOf(database, id)).toEqual([]);
    expect(await budgetOf(database, budgetId)).toEqual({ spent: 0, reserved: 0 });
  });

  it('is stored in the same statement; without a claim where its budgets were not counted yet or refuse', async () => {
    const { team, budgetId } = await newTeam(database, 25);
    const admissions = new Admissions(database.db);
    const insert = async () => {
      const request = requestOf(database, team);
      return { id: request.id, claimed: await admissions.insert(request, firstCall(request.id)) };
    };
    const first = await insert();
    expect(first.claimed).toBe(false);
    expect(await admissions.admit(firstCall(first.id))).toEqual({ state: 'claimed' });
    const second = await insert();
    expect(second.claimed).toBe(true);
    expect(await budgetOf(database, budgetId)).toEqual({ spent: 0, reserved: 20 });
    const third = await insert();
    expect(third.claimed).toBe(false);
    expect(await attemptsOf(database, third.id)).toEqual([]);
    expect(await admissions.admit(firstCall(third.id))).toMatchObject({ state: 'refused' });
  });

  it('is told of an x-request-id that was used before', async () => {
    const admissions = new Admissions(database.db);
    const request = requestOf(database, newId('vk'));
    await admissions.insert(request, firstCall(request.id));
    const again = { ...requestOf(database, newId('vk')), owner: request.owner, requestId: request.requestId };
    await expect(admissions.insert(again, firstCall(again.id))).rejects.toMatchObject({ code: 'caller_conflict' });
    expect(await attemptsOf(database, again.id)).toEqual([]);
  });
});

onEveryDatabase('an answer that is journalled and settled at once', (database) => {
  const answered = async (costNanos = 7) => {
    const { team, budgetId } = await newTeam(database, 100);
    const id = await insertRequest(database.db, { attribution: { ...NOBODY, team } });
    await new Admissions(database.db).admit(firstCall(id));
    const outcome = {
      state: 'succeeded',
      latencyMs: 3,
      usage: { ...NO_USAGE, inputTokens: 4, outputTokens: 5 },
      costNanos,
    } as const;
    return { id, budgetId, key: { requestId: id, targetIndex: 0, n: 1 }, outcome };
  };
  const rowOf = (id: string) =>
    database.db.selectFrom('llm_requests').selectAll().where('id', '=', id).executeTakeFirstOrThrow();

  it('books what it cost, frees the rest and closes the row', async () => {
    const { id, budgetId, key, outcome } = await answered();
    expect(await finishAndSettle(database.db, key, outcome)).toEqual({
      accepted: true,
      attempts: 1,
      costNanos: 7,
      alerts: [],
    });
    expect(await budgetOf(database, budgetId)).toEqual({ spent: 7, reserved: 0 });
    expect(await attemptsOf(database, id)).toMatchObject([{ state: 'succeeded', cost_nanos: 7, completion_tokens: 5 }]);
    expect(await rowOf(id)).toMatchObject({
      state: 'completed',
      status: 'success',
      cost_nanos: 7,
      total_tokens: 9,
      provider_used: 'p',
    });
    expect(await settle(database.db, { requestId: id, state: 'cancelled' })).toEqual([]);
    expect(await rowOf(id)).toMatchObject({ state: 'completed' });
  });

  it('counts the calls that were made and lost before it', async () => {
    const { id, budgetId, key, outcome } = await answered();
    const attempts = new Attempts(database.db);
    await attempts.markUnknown(key);
    await attempts.claim({ ...firstCall(id).claim, n: 2 });
    expect(await finishAndSettle(database.db, { ...key, n: 2 }, outcome)).toMatchObject({ attempts: 2, costNanos: 17 });
    expect(await budgetOf(database, budgetId)).toEqual({ spent: 17, reserved: 0 });
  });

  it('tells the alerts it caused, then and ever after', async () => {
    const { id, key, outcome } = await answered(60);
    const { alerts } = (await finishAndSettle(database.db, key, outcome)) as { alerts?: readonly string[] };
    expect(alerts).toHaveLength(1);
    expect(await settle(database.db, { requestId: id, state: 'completed' })).toEqual(alerts);
  });

  it('is not accepted once its claim was lost or its request settled; nothing changes then', async () => {
    const lost = await answered();
    await new Attempts(database.db).markUnknown(lost.key);
    expect(await finishAndSettle(database.db, lost.key, lost.outcome)).toEqual({ accepted: false });
    expect(await rowOf(lost.id)).toMatchObject({ completed_at: null });
    expect(await budgetOf(database, lost.budgetId)).toEqual({ spent: 0, reserved: 10 });

    const closed = await answered();
    await settle(database.db, { requestId: closed.id, state: 'cancelled' });
    expect(await finishAndSettle(database.db, closed.key, closed.outcome)).toEqual({ accepted: false });
    expect(await attemptsOf(database, closed.id)).toMatchObject([{ state: 'unknown', cost_nanos: 10 }]);
    expect(await budgetOf(database, closed.budgetId)).toEqual({ spent: 10, reserved: 0 });
  });
});

onRealPostgres('requests let in side by side', (database) => {
  it('never pass the budget, and leave nothing reserved', async () => {
    const limit = 230;
    const { team, budgetId } = await newTeam(database, limit);
    const admissions = new Admissions(database.db);
    let admitted = 0;
    const one = async (i: number) => {
      const request = requestOf(database, team);
      const first = firstCall(request.id);
      const claimed = await admissions.insert(request, first);
      const state = claimed ? 'claimed' : (await admissions.admit(first)).state;
      if (state !== 'claimed') return settle(database.db, { requestId: request.id, state: 'failed' });
      admitted += 1;
      const { spent = 0, reserved = 0 } = await budgetOf(database, budgetId);
      expect(spent + reserved).toBeLessThanOrEqual(limit);
      const outcome = { state: 'succeeded', latencyMs: 1, usage: NO_USAGE, costNanos: 5 + (i % 6) } as const;
      // Some are settled by somebody else at the same moment.
      const finishing = finishAndSettle(database.db, first.claim, outcome);
      if (i % 3 === 0) await settle(database.db, { requestId: request.id, state: 'cancelled' });
      return finishing;
    };
    await Promise.all(Array.from({ length: 120 }, (_, i) => one(i)));
    const { spent = 0, reserved } = await budgetOf(database, budgetId);
    expect(reserved).toBe(0);
    expect(spent).toBeLessThanOrEqual(limit);
    expect(admitted).toBeGreaterThan(20);
    const { sum } = await database.db
      .selectFrom('llm_requests')
      .select((eb) => eb.fn.sum<string>('cost_nanos').as('sum'))
      .where('team', '=', team)
      .executeTakeFirstOrThrow();
    expect(Number(sum)).toBe(spent);
  });
});
