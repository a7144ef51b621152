import fc from 'fast-check';
import { sql } from 'kysely';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { createSweepActivities } from '../../activities/sweep.ts';
import { BUDGET_PERIODS, type BudgetKind, type BudgetPeriod } from '../../domain/budget.ts';
import { NO_USAGE } from '../../domain/money.ts';
import { type Attribution, NOBODY, SCOPE_TYPES, type Scope, type ScopeType, scopesOf } from '../../domain/scope.ts';
import { createCipher } from '../../storage/cipher.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import { type Budget, Budgets } from '../../storage/postgres/budgets.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { Files } from '../../storage/postgres/files.ts';
import { Reservations } from '../../storage/postgres/reservations.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { ENCRYPTION_KEY, insertRequest, onEveryDatabase, onRealPostgres } from '../support/databases.ts';

const unique = () => crypto.randomUUID();
const reserve = async (db: Sql, requestId: string, nanos: number) =>
  (await new Reservations(db).reserve({ requestId, nanos, priceVersion: 'x' })).reserved;

/** Claims and answers one call. */
async function call(db: Sql, requestId: string, n: number, maxCostNanos: number, costNanos: number): Promise<void> {
  const attempts = new Attempts(db);
  const key = { requestId, targetIndex: 0, n };
  await attempts.claim({ ...key, provider: 'p', model: 'm', owner: 'o', maxCostNanos });
  await attempts.finish(key, { state: 'succeeded', latencyMs: 1, usage: NO_USAGE, costNanos });
}
const end = (db: Sql, requestId: string) => settle(db, { requestId, state: 'completed' });

async function makeBudget(
  db: Sql,
  scope: Scope,
  limitNanos: number,
  kind: BudgetKind = 'hard',
  period: BudgetPeriod = 'monthly',
): Promise<Budget> {
  return (await new Budgets(db).create({ scope, period, kind, limitNanos })) as Budget;
}
const standing = async (db: Sql, { id }: Budget) => {
  const budget = await new Budgets(db).get(id);
  return { spent: budget?.spentNanos, reserved: budget?.reservedNanos };
};

onEveryDatabase('a budget', (database) => {
  it('of any scope and period holds what is set aside, then what was spent', async () => {
    const { db } = database;
    for (const type of SCOPE_TYPES) {
      const scope = { type, id: unique() };
      const budgets = await Promise.all(BUDGET_PERIODS.map((period) => makeBudget(db, scope, 1_000, 'hard', period)));
      const field: Record<ScopeType, keyof Attribution> = {
        key: 'keyId',
        organisation: 'organisation',
        project: 'project',
        team: 'team',
        user: 'user',
      };
      const id = await insertRequest(db, { attribution: { ...NOBODY, [field[type]]: scope.id } });
      expect(await reserve(db, id, 600)).toBe(true);
      for (const budget of budgets) expect(await standing(db, budget)).toEqual({ spent: 0, reserved: 600 });
      await call(db, id, 1, 600, 250);
      await end(db, id);
      for (const budget of budgets) expect(await standing(db, budget)).toEqual({ spent: 250, reserved: 0 });
      const next = await insertRequest(db, { attribution: { ...NOBODY, [field[type]]: scope.id } });
      expect(await reserve(db, next, 751)).toBe(false);
      expect(await reserve(db, next, 750)).toBe(true);
    }
  });

  it('that is exhausted leaves the others untouched', async () => {
    const { db } = database;
    const attribution = { ...NOBODY, team: unique(), organisation: unique() };
    const team = await makeBudget(db, { type: 'team', id: attribution.team }, 100);
    const organisation = await makeBudget(db, { type: 'organisation', id: attribution.organisation }, 10_000);
    const id = await insertRequest(db, { attribution });
    const result = await new Reservations(db).reserve({ requestId: id, nanos: 101, priceVersion: 'x' });
    expect(result).toEqual({ reserved: false, exceeded: { scope: 'team', period: 'monthly' } });
    expect(await standing(db, team)).toEqual({ spent: 0, reserved: 0 });
    expect(await standing(db, organisation)).toEqual({ spent: 0, reserved: 0 });
  });

  it('that is soft refuses nothing', async () => {
    const { db } = database;
    const team = unique();
    const budget = await makeBudget(db, { type: 'team', id: team }, 100, 'soft');
    const id = await insertRequest(db, { attribution: { ...NOBODY, team } });
    expect(await reserve(db, id, 5_000)).toBe(true);
    await call(db, id, 1, 5_000, 300);
    expect(await end(db, id)).toHaveLength(3);
    expect(await standing(db, budget)).toEqual({ spent: 300, reserved: 0 });
  });

  it('counts what its period spent before it was made, and what was under way', async () => {
    const { db } = database;
    const team = unique();
    const [before, during, old] = await Promise.all(
      [1, 2, 3].map(() => insertRequest(db, { attribution: { ...NOBODY, team } })),
    );
    await sql`UPDATE llm_requests SET timestamp = now() - interval '40 days' WHERE id = ${old}`.execute(db);
    for (const [id, cost] of [
      [before, 300],
      [old, 70],
    ] as const) {
      await call(db, id ?? '', 1, 1_000, cost);
      await end(db, id ?? '');
    }
    await call(db, during ?? '', 1, 1_000, 5);
    const monthly = await makeBudget(db, { type: 'team', id: team }, 1_000);
    const total = await makeBudget(db, { type: 'team', id: team }, 1_000, 'hard', 'total');
    expect(await standing(db, monthly)).toEqual({ spent: 300, reserved: 0 });
    const next = await insertRequest(db, { attribution: { ...NOBODY, team } });
    expect(await reserve(db, next, 701)).toBe(false);
    expect(await reserve(db, next, 600)).toBe(true);
    await end(db, during ?? '');
    expect(await standing(db, monthly)).toEqual({ spent: 305, reserved: 600 });
    expect(await standing(db, total)).toEqual({ spent: 375, reserved: 600 });
  });

  it('starts again with its period', async () => {
    const { db } = database;
    const team = unique();
    const daily = await makeBudget(db, { type: 'team', id: team }, 100, 'hard', 'daily');
    const yesterday = await insertRequest(db, { attribution: { ...NOBODY, team } });
    await sql`UPDATE llm_requests SET timestamp = now() - interval '1 day' WHERE id = ${yesterday}`.execute(db);
    expect(await reserve(db, yesterday, 100)).toBe(true);
    const today = await insertRequest(db, { attribution: { ...NOBODY, team } });
    expect(await reserve(db, today, 100)).toBe(true);
    await call(db, yesterday, 1, 100, 100);
    await end(db, yesterday);
    expect(await standing(db, daily)).toEqual({ spent: 0, reserved: 100 });
    const { resetsAt } = (await new Budgets(db).get(daily.id)) as Budget;
    expect(resetsAt?.toISOString()).toMatch(/T00:00:00.000Z$/);
    expect(resetsAt?.getTime()).toBeGreaterThan(Date.now());
  });

  it('warns once at each threshold it passes', async () => {
    const { db } = database;
    const team = unique();
    await makeBudget(db, { type: 'team', id: team }, 1_000);
    const spendMore = async (cost: number) => {
      const id = await insertRequest(db, { attribution: { ...NOBODY, team } });
      await reserve(db, id, cost);
      await call(db, id, 1, cost, cost);
      return (await end(db, id)).map((alert) => Number(alert.split('-').at(-1)));
    };
    expect(await spendMore(499)).toEqual([]);
    expect(await spendMore(1)).toEqual([50]);
    expect(await spendMore(100)).toEqual([]);
    expect((await spendMore(400)).sort((a, b) => a - b)).toEqual([80, 100]);
  });

  it('of a scope, period and kind exists once', async () => {
    const { db } = database;
    const scope = { type: 'user', id: unique() } as const;
    await makeBudget(db, scope, 1);
    expect(await new Budgets(db).create({ scope, period: 'monthly', kind: 'hard', limitNanos: 2 })).toBeUndefined();
    expect(await new Budgets(db).list({ scopeType: 'user', scopeId: scope.id }, 10, undefined)).toHaveLength(1);
  });
});

onEveryDatabase('a reservation settled long ago', (database) => {
  it('is removed, and no other', async () => {
    const { db } = database;
    const { sweep } = createSweepActivities({
      db,
      files: new Files(db, createCipher(ENCRYPTION_KEY)),
      presenceOf: async () => 'running',
      logger: pino({ level: 'silent' }),
    });
    const keyId = unique();
    const [old, recent, open] = await Promise.all(
      [1, 2, 3].map(async () => {
        const id = await insertRequest(db, { attribution: { ...NOBODY, keyId } });
        await reserve(db, id, 10);
        return id;
      }),
    );
    for (const id of [old, recent]) await end(db, id ?? '');
    await sql`UPDATE reservations SET settled_at = now() - interval '25 hours' WHERE request_id = ${old}`.execute(db);
    expect((await sweep()).removed).toBeGreaterThan(0);
    const left = await db.selectFrom('reservations').select('request_id').where('scope_id', '=', keyId).execute();
    expect(left.map(({ request_id }) => request_id).sort()).toEqual([recent, open].sort());
  });
});

const people = fc.record({
  key: fc.nat({ max: 2 }),
  team: fc.option(fc.nat({ max: 1 }), { nil: null }),
  user: fc.option(fc.nat({ max: 1 }), { nil: null }),
  project: fc.option(fc.nat({ max: 1 }), { nil: null }),
});
const requests = fc.array(
  fc.record({
    who: people,
    max: fc.integer({ min: 1, max: 500 }),
    /** What each call costs, as a part of its maximum; null is a call that nobody finished. */
    calls: fc.array(fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: null }), { maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 20 },
);
const limits = fc.array(
  fc.record({
    type: fc.constantFrom(...SCOPE_TYPES),
    index: fc.nat({ max: 2 }),
    limit: fc.integer({ min: 0, max: 3_000 }),
    period: fc.constantFrom(...BUDGET_PERIODS),
    kind: fc.constantFrom('hard' as const, 'hard' as const, 'soft' as const),
  }),
  { maxLength: 6 },
);

type Person = { key: number; team: number | null; user: number | null; project: number | null };

/** The people of one run: their ids are new each time; teams share one organisation. */
const attributionOf = (run: string, { key, team, user, project }: Person): Attribution => ({
  keyId: `key-${run}-${key}`,
  team: team === null ? null : `team-${run}-${team}`,
  organisation: team === null ? null : `organisation-${run}-0`,
  user: user === null ? null : `user-${run}-${user}`,
  project: project === null ? null : `project-${run}-${project}`,
});

async function makeBudgets(
  db: Sql,
  run: string,
  wanted: readonly { type: ScopeType; index: number; limit: number; period: BudgetPeriod; kind: BudgetKind }[],
) {
  const made: Budget[] = [];
  for (const { type, index, limit, period, kind } of wanted) {
    const budget = await new Budgets(db).create({
      scope: { type, id: `${type}-${run}-${index}` },
      period,
      kind,
      limitNanos: limit,
    });
    if (budget) made.push(budget);
  }
  return made;
}

onRealPostgres('money', (database) => {
  describe('one request after the other', () => {
    it('is reserved and refused exactly as a model of it says', async () => {
      const { db } = database;
      await fc.assert(
        fc.asyncProperty(limits, requests, async (wanted, made) => {
          const run = unique();
          const budgets = await makeBudgets(db, run, wanted);
          const spent = new Map<string, number>();
          const covers = (who: Attribution, need: number) =>
            budgets
              .filter(
                ({ kind, scope }) =>
                  kind === 'hard' && scopesOf(who).some((s) => s.type === scope.type && s.id === scope.id),
              )
              .every(({ scope, limitNanos }) => (spent.get(scope.id) ?? 0) + need <= limitNanos);
          for (const { who, max, calls } of made) {
            const attribution = attributionOf(run, who);
            const id = await insertRequest(db, { attribution });
            const admitted = covers(attribution, max);
            expect(await reserve(db, id, max)).toBe(admitted);
            let cost = 0;
            if (admitted) {
              for (const [i, part] of calls.entries()) {
                const covered = covers(attribution, cost + max);
                expect((await new Reservations(db).cover(id, max)).reserved).toBe(covered);
                if (!covered) break;
                const key = { requestId: id, targetIndex: 0, n: i + 1 };
                const attempts = new Attempts(db);
                await attempts.claim({ ...key, provider: 'p', model: 'm', owner: 'o', maxCostNanos: max });
                const price = part === null ? max : Math.floor(max * part);
                if (part !== null)
                  await attempts.finish(key, { state: 'failed', latencyMs: 1, usage: null, costNanos: price });
                cost += price;
              }
            }
            await end(db, id);
            for (const { id: scope } of scopesOf(attribution)) spent.set(scope, (spent.get(scope) ?? 0) + cost);
          }
          for (const budget of budgets) {
            expect(await standing(db, budget)).toEqual({ spent: spent.get(budget.scope.id) ?? 0, reserved: 0 });
          }
        }),
        { numRuns: 25 },
      );
    });
  });

  describe('all at once', () => {
    it('never passes a hard limit, leaves nothing reserved, and agrees with the ledger', async () => {
      const { db } = database;
      await fc.assert(
        fc.asyncProperty(limits, requests, async (wanted, made) => {
          const run = unique();
          const budgets = await makeBudgets(db, run, wanted);
          const withinLimits = async () => {
            for (const budget of budgets.filter(({ kind }) => kind === 'hard')) {
              const { spent = 0, reserved = 0 } = await standing(db, budget);
              expect(spent + reserved).toBeLessThanOrEqual(budget.limitNanos);
            }
          };
          await Promise.all(
            made.map(async ({ who, max, calls }) => {
              const id = await insertRequest(db, { attribution: attributionOf(run, who) });
              // Refused once, it may find room a moment later; reserved once, it stays reserved.
              const [first, second] = await Promise.all([reserve(db, id, max), reserve(db, id, max)]);
              if (first || second) {
                expect(await reserve(db, id, max)).toBe(true);
                for (const [i, part] of calls.entries()) {
                  if (!(await new Reservations(db).cover(id, max)).reserved) break;
                  await call(db, id, i + 1, max, Math.floor(max * (part ?? 1)));
                }
              }
              await withinLimits();
              await Promise.all([end(db, id), end(db, id)]);
            }),
          );
          await withinLimits();
          for (const budget of budgets) {
            const column = {
              key: 'virtual_key_id',
              organisation: 'organisation',
              project: 'project',
              team: 'team',
              user: 'user_id',
            } as const;
            const ledger = await db
              .selectFrom('llm_requests')
              .select(sql<number>`coalesce(sum(cost_nanos), 0)::bigint`.as('spent'))
              .where(column[budget.scope.type], '=', budget.scope.id)
              .executeTakeFirstOrThrow();
            expect(await standing(db, budget)).toEqual({ spent: ledger.spent, reserved: 0 });
          }
        }),
        { numRuns: 25 },
      );
    });
  });

  describe('left behind at any step', () => {
    it('is settled and freed by one sweep, which finds nothing to correct', async () => {
      const { db } = database;
      const { sweep } = createSweepActivities({
        db,
        files: new Files(db, createCipher(ENCRYPTION_KEY)),
        presenceOf: async () => 'ended',
        logger: pino({ level: 'silent' }),
      });
      const step = fc.constantFrom('stored', 'reserved', 'claimed', 'answered', 'settled');
      await fc.assert(
        fc.asyncProperty(limits, fc.array(fc.record({ who: people, step }), { maxLength: 8 }), async (wanted, left) => {
          const run = unique();
          const budgets = await makeBudgets(db, run, wanted);
          const spent = new Map<string, number>();
          const steps = ['stored', 'reserved', 'claimed', 'answered', 'settled'];
          for (const { who, step } of left) {
            const attribution = attributionOf(run, who);
            const id = await insertRequest(db, { attribution });
            await sql`UPDATE llm_requests SET timestamp = now() - interval '2 minutes' WHERE id = ${id}`.execute(db);
            const reached = steps.indexOf(step);
            if (reached >= 1 && !(await reserve(db, id, 40))) continue;
            const key = { requestId: id, targetIndex: 0, n: 1 };
            const attempts = new Attempts(db);
            if (reached >= 2) await attempts.claim({ ...key, provider: 'p', model: 'm', owner: 'o', maxCostNanos: 40 });
            if (reached >= 3) {
              await attempts.finish(key, { state: 'succeeded', latencyMs: 1, usage: NO_USAGE, costNanos: 7 });
            }
            if (reached >= 4) await end(db, id);
            const cost = reached < 2 ? 0 : reached === 2 ? 40 : 7;
            for (const { id: scope } of scopesOf(attribution)) spent.set(scope, (spent.get(scope) ?? 0) + cost);
          }
          const { drift } = await sweep();
          expect(drift.filter(({ id }) => id.includes(run))).toEqual([]);
          for (const budget of budgets) {
            expect(await standing(db, budget)).toEqual({ spent: spent.get(budget.scope.id) ?? 0, reserved: 0 });
          }
          expect((await sweep()).settled).toEqual([]);
        }),
        { numRuns: 15 },
      );
    });
  });
});
