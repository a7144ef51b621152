import { expect, it } from 'vitest';
import { NO_USAGE } from '../../domain/money.ts';
import { NOBODY } from '../../domain/scope.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { Ledger } from '../../storage/postgres/ledger.ts';
import { Requests } from '../../storage/postgres/requests.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { insertRequest, newRequest, onEveryDatabase, ownerOf } from '../support/databases.ts';

const unique = () => crypto.randomUUID().slice(0, 8);

async function finished(db: Sql, team: string, model: string, costNanos: number | null): Promise<string> {
  const attribution = { ...NOBODY, keyId: `vk-${team}`, team };
  const id = await insertRequest(db, { attribution, modelRequested: model });
  if (costNanos === null) {
    const error = { code: 'provider_overloaded', message: 'busy' } as const;
    await settle(db, { requestId: id, state: 'failed', error });
    return id;
  }
  const attempts = new Attempts(db);
  const key = { requestId: id, targetIndex: 0, n: 1 };
  await attempts.claim({ ...key, provider: 'p', model, owner: 'o', maxCostNanos: costNanos });
  const usage = { ...NO_USAGE, inputTokens: 10, outputTokens: 20, cachedInputTokens: 4 };
  await attempts.finish(key, { state: 'succeeded', latencyMs: 5, usage, costNanos });
  await settle(db, { requestId: id, state: 'completed' });
  return id;
}

onEveryDatabase('the ledger', (database) => {
  it('says when a request was accepted, not when it was stored', async () => {
    const { db } = database;
    const acceptedAt = new Date(Date.now() - 5_000);
    const requests = new Requests(db);
    const made = [newRequest(db, { acceptedAt }), newRequest(db, { acceptedAt })] as const;
    await requests.insert(made[0]);
    await requests.insertMissing([made[1]]);
    for (const { id, owner } of made)
      expect((await requests.find(id, owner, undefined))?.timestamp).toEqual(acceptedAt);
  });

  it('lists newest first, page by page, without gaps or repeats', async () => {
    const { db } = database;
    const team = unique();
    const ids: string[] = [];
    for (let i = 0; i < 5; i += 1) ids.unshift(await finished(db, team, 'm', i));
    const ledger = new Ledger(db);
    const pages: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await ledger.list({ team, limit: 2, cursor });
      pages.push(...page.map((entry) => entry.id));
      cursor = page.length === 2 ? page.at(-1)?.id : undefined;
    } while (cursor);
    expect(pages).toEqual(ids);
  });

  it('filters by key, team, model, status and time', async () => {
    const { db } = database;
    const team = unique();
    const good = await finished(db, team, `model-${team}`, 5);
    const bad = await finished(db, team, 'other', null);
    const ledger = new Ledger(db);
    const ids = async (filter: object) => (await ledger.list({ limit: 10, ...filter })).map((entry) => entry.id);
    expect(await ids({ key: `vk-${team}` })).toEqual([bad, good]);
    expect(await ids({ model: `model-${team}` })).toEqual([good]);
    expect(await ids({ team, status: 'failure' })).toEqual([bad]);
    expect(await ids({ team, status: 'success' })).toEqual([good]);
    expect(await ids({ team, since: new Date(Date.now() + 60_000) })).toEqual([]);
    expect(await ids({ team, since: new Date(Date.now() - 60_000) })).toHaveLength(2);
    expect(await ids({ visible: { owner: `team:${team}` } })).toHaveLength(2);
    expect(await ids({ visible: { owner: `team:${unique()}` }, team })).toEqual([]);
  });

  it('shows a request with its attempts, to its owner only', async () => {
    const { db } = database;
    const team = unique();
    const id = await finished(db, team, 'm', 1_500);
    const ledger = new Ledger(db);
    expect(await ledger.get(id, { owner: `team:${unique()}` })).toBeUndefined();
    expect(await ledger.get(id, undefined)).toMatchObject({
      id,
      run_id: id,
      team,
      status: 'success',
      cost_usd: 0.0000015,
      total_tokens: 30,
      attempts: [
        {
          target: 'p/m',
          n: 1,
          state: 'succeeded',
          error: null,
          cached_tokens: 4,
          completion_tokens: 20,
          cost_usd: 0.0000015,
        },
      ],
    });
  });

  it('sums usage by group, dearest first', async () => {
    const { db } = database;
    const team = unique();
    await finished(db, team, 'cheap', 1_000);
    await finished(db, team, 'dear', 5_000);
    await finished(db, team, 'dear', 6_000);
    await finished(db, team, 'dear', null);
    await insertRequest(db, { attribution: { ...NOBODY, team } });
    const usage = await new Ledger(db).usage('model', { team });
    expect(usage).toEqual([
      { group: 'dear', requests: 2, failures: 0, prompt_tokens: 20, completion_tokens: 40, cost_usd: 0.000011 },
      { group: 'cheap', requests: 1, failures: 0, prompt_tokens: 10, completion_tokens: 20, cost_usd: 0.000001 },
      { group: null, requests: 1, failures: 1, prompt_tokens: 0, completion_tokens: 0, cost_usd: 0 },
    ]);
    const [byTeam] = await new Ledger(db).usage('team', { team });
    expect(byTeam).toMatchObject({ group: team, requests: 4, failures: 1 });
    const [byDay] = await new Ledger(db).usage('day', { team });
    expect(byDay?.group).toBe(new Date().toISOString().slice(0, 10));
  });
});

onEveryDatabase('a stored request', (database) => {
  it('is found by its id or its request id, by its owner and by who sees all', async () => {
    const { db } = database;
    const requests = new Requests(db);
    const attribution = { ...NOBODY, keyId: 'vk-1', team: unique() };
    const stranger = { ...NOBODY, keyId: 'vk-2', team: unique() };
    const requestId = `req-${unique()}`;
    const id = await insertRequest(db, { attribution, requestId });
    const owner = ownerOf(attribution);
    const other = ownerOf(stranger);
    expect((await requests.find(id, owner, { owner }))?.id).toBe(id);
    expect((await requests.find(requestId, owner, { owner }))?.id).toBe(id);
    expect((await requests.find(id, 'master', undefined))?.id).toBe(id);
    expect(await requests.find(id, other, { owner: other })).toBeUndefined();
    expect(await requests.find(requestId, other, { owner: other })).toBeUndefined();
    expect(await requests.find(requestId, owner, { owner, project: 'another' })).toBeUndefined();
  });

  it('has a request id that its owner uses once', async () => {
    const { db } = database;
    const requestId = `req-${unique()}`;
    const attribution = { ...NOBODY, keyId: 'vk-1', team: unique() };
    await insertRequest(db, { attribution, requestId });
    await expect(insertRequest(db, { attribution, requestId })).rejects.toMatchObject({ code: 'caller_conflict' });
    await expect(
      insertRequest(db, { attribution: { ...attribution, team: unique() }, requestId }),
    ).resolves.toBeTruthy();
  });
});
