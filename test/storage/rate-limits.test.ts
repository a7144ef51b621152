import { expect, it } from 'vitest';
import { NOBODY } from '../../domain/scope.ts';
import { Policies } from '../../storage/postgres/policies.ts';
import { RateLimits } from '../../storage/postgres/rate-limits.ts';
import { Tenants } from '../../storage/postgres/tenants.ts';
import { onEveryDatabase } from '../support/databases.ts';

onEveryDatabase('rate limits', (database) => {
  it('of everything a request belongs to apply to it, the team’s organisation included', async () => {
    const id = crypto.randomUUID();
    const limits = new RateLimits(database.db);
    const tenants = new Tenants(database.db);
    await tenants.create('organisations', { id, name: id });
    await tenants.create('teams', { id, name: id, organisation: id });
    for (const type of ['key', 'organisation', 'project', 'team', 'user', 'model'] as const) {
      await limits.set({ type, id }, { concurrentRequests: 3 });
      await limits.set({ type, id: `other-${id}` }, { concurrentRequests: 1 });
    }
    const who = { ...NOBODY, keyId: id, team: id, project: id, user: id };
    const policy = await new Policies(database.db).of(who, [id, 'm']);
    expect(policy.limits.map(({ scope }) => scope)).toEqual([
      'key',
      'model',
      'organisation',
      'project',
      'team',
      'user',
    ]);
    expect(new Set(policy.limits.map((limit) => limit.concurrentRequests))).toEqual(new Set([3]));
  });

  it('are changed one by one, listed in order, and removed', async () => {
    const limits = new RateLimits(database.db);
    const [first, second] = [crypto.randomUUID(), crypto.randomUUID()].sort();
    const team = { type: 'team', id: first as string } as const;
    await limits.set({ type: 'user', id: first as string }, { tokensPerMinute: 1 });
    await limits.set({ type: 'team', id: second as string }, { tokensPerMinute: 1 });
    await limits.set(team, { requestsPerMinute: 5, tokensPerMinute: 6 });
    await limits.set(team, { tokensPerMinute: null, concurrentRequests: 7 });
    expect(await limits.get(team)).toMatchObject({
      requests_per_minute: 5,
      tokens_per_minute: null,
      concurrent_requests: 7,
    });
    const after = await limits.list({}, 100, team);
    const mine = after.filter(({ scope_id }) => scope_id === first || scope_id === second);
    expect(mine.map(({ scope_type, scope_id }) => [scope_type, scope_id])).toEqual([
      ['team', second],
      ['user', first],
    ]);
    expect(await limits.remove(team)).toBe(true);
    expect(await limits.remove(team)).toBe(false);
    expect(await limits.get(team)).toBeUndefined();
  });
});
