import { expect, it } from 'vitest';
import type { CostGroupBy } from '../../domain/costs.ts';
import { type NanoDollars, NO_USAGE } from '../../domain/money.ts';
import { NOBODY } from '../../domain/scope.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import { Costs } from '../../storage/postgres/costs.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import type { NewRequest } from '../../storage/postgres/requests.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { insertRequest, onEveryDatabase } from '../support/databases.ts';

const unique = () => crypto.randomUUID().slice(0, 8);

interface Made {
  readonly model: string;
  readonly costNanos: NanoDollars;
  readonly cacheSavingsNanos?: NanoDollars;
  /** What a first call costs of which nobody saw the end. */
  readonly unknownNanos?: NanoDollars;
}

/** A request that was answered. */
async function answered(db: Sql, request: Partial<NewRequest>, made: Made): Promise<string> {
  const { model, costNanos, cacheSavingsNanos = 0, unknownNanos } = made;
  const requestId = await insertRequest(db, { modelRequested: model, ...request });
  const attempts = new Attempts(db);
  const claim = async (n: number, maxCostNanos: number) => {
    const key = { requestId, targetIndex: 0, n };
    await attempts.claim({ ...key, provider: 'p', model, owner: 'o', maxCostNanos });
    return key;
  };
  if (unknownNanos !== undefined) await attempts.markUnknown(await claim(1, unknownNanos));
  const usage = { ...NO_USAGE, inputTokens: 10, cachedInputTokens: 4, outputTokens: 20 };
  const key = await claim(2, costNanos);
  await attempts.finish(key, { state: 'succeeded', latencyMs: 5, usage, costNanos, cacheSavingsNanos });
  await settle(db, { requestId, state: 'completed' });
  return requestId;
}

onEveryDatabase('costs', (database) => {
  it('are summed up by group and in total, with markup, unknown money and what the cache saved', async () => {
    const { db } = database;
    const team = unique();
    const request = { attribution: { ...NOBODY, team }, markupPercent: 10 };
    await answered(db, request, { model: 'cheap', costNanos: 1_000, cacheSavingsNanos: 70 });
    await answered(db, request, { model: 'dear', costNanos: 5_000, unknownNanos: 3_000 });
    await answered(db, { ...request, markupPercent: 0 }, { model: 'dear', costNanos: 2_000 });
    const failed = await insertRequest(db, request);
    await settle(db, { requestId: failed, state: 'failed' });
    await insertRequest(db, request); // still runs

    const { groups, total } = await new Costs(db).summary('model', { team });
    const tokens = (answers: number) => ({
      prompt_tokens: 10 * answers,
      completion_tokens: 20 * answers,
      cached_tokens: 4 * answers,
    });
    const none = { failures: 0, unknown_usd: 0, cache_savings_usd: 0 };
    expect(groups).toEqual([
      { group: 'dear', requests: 2, ...tokens(2), ...none, cost_usd: 1e-5, billed_usd: 1.08e-5, unknown_usd: 3e-6 },
      {
        group: 'cheap',
        requests: 1,
        ...tokens(1),
        ...none,
        cost_usd: 1e-6,
        billed_usd: 1.1e-6,
        cache_savings_usd: 7e-8,
      },
      { group: null, requests: 1, ...tokens(0), ...none, failures: 1, cost_usd: 0, billed_usd: 0 },
    ]);
    expect(total).toEqual({
      requests: 4,
      ...tokens(3),
      failures: 1,
      cost_usd: 1.1e-5,
      billed_usd: 1.19e-5,
      unknown_usd: 3e-6,
      cache_savings_usd: 7e-8,
    });
  });

  it('are all zero where there was nothing', async () => {
    const { groups, total } = await new Costs(database.db).summary('key', { team: unique() });
    expect(groups).toEqual([]);
    expect(total).toMatchObject({ requests: 0, cost_usd: 0, billed_usd: 0, unknown_usd: 0, cache_savings_usd: 0 });
  });

  it('can be grouped by everything a request is attributed to', async () => {
    const { db } = database;
    const [id, feature] = [unique(), unique()];
    const attribution = {
      keyId: `vk-${id}`,
      organisation: `o-${id}`,
      team: `t-${id}`,
      project: `p-${id}`,
      user: `u-${id}`,
    };
    await answered(db, { attribution, feature, surface: 'generate' }, { model: `m-${id}`, costNanos: 1_000 });
    const costs = new Costs(db);
    const groupOf = async (by: CostGroupBy) => (await costs.summary(by, { team: `t-${id}` })).groups[0]?.group;
    expect(await groupOf('key')).toBe(`vk-${id}`);
    expect(await groupOf('user')).toBe(`u-${id}`);
    expect(await groupOf('team')).toBe(`t-${id}`);
    expect(await groupOf('project')).toBe(`p-${id}`);
    expect(await groupOf('organisation')).toBe(`o-${id}`);
    expect(await groupOf('feature')).toBe(feature);
    expect(await groupOf('workflow')).toBe('generate');
    expect(await groupOf('model')).toBe(`m-${id}`);
    expect(await groupOf('provider')).toBe('p');
    expect(await groupOf('day')).toBe(new Date().toISOString().slice(0, 10));
  });

  it('are filtered by attribution, owner and time', async () => {
    const { db } = database;
    const [team, project] = [unique(), unique()];
    const attribution = { ...NOBODY, team, project };
    await answered(db, { attribution }, { model: 'm', costNanos: 7 });
    await answered(db, { attribution: { ...attribution, project: null } }, { model: 'm', costNanos: 20 });
    const costs = new Costs(db);
    const soon = new Date(Date.now() + 60_000);
    expect(await costs.spent({ team })).toBe(27);
    expect(await costs.spent({ team, project })).toBe(7);
    expect(await costs.spent({ team, visible: { owner: `team:${team}` } })).toBe(27);
    expect(await costs.spent({ team, visible: { owner: `team:${team}`, project } })).toBe(7);
    expect(await costs.spent({ team, visible: { owner: 'team:other' } })).toBe(0);
    expect(await costs.spent({ team, until: soon })).toBe(27);
    expect(await costs.spent({ team, since: soon })).toBe(0);
  });

  it('keep what calls to a model put out on average', async () => {
    const { db } = database;
    const model = unique();
    const costs = new Costs(db);
    const lately = new Date(Date.now() - 60_000);
    expect(await costs.averageOutput('p', model, lately)).toBeUndefined();
    await answered(db, {}, { model, costNanos: 1, unknownNanos: 1 });
    expect(await costs.averageOutput('p', model, lately)).toBe(20);
    expect(await costs.averageOutput('q', model, lately)).toBeUndefined();
    expect(await costs.averageOutput('p', model, new Date(Date.now() + 60_000))).toBeUndefined();
  });
});
