import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion } from '../support/shapes.ts';

const upstream = new FixtureServer();
let gateway: TestGateway;
beforeAll(async () => {
  await upstream.start();
  upstream.reply = () => ({ body: openaiCompletion('hi') });
  gateway = await startGateway(
    `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }\n`,
    'configured',
  );
});
afterAll(async () => {
  await gateway.stop();
  await upstream.stop();
});

const unique = () => crypto.randomUUID();
const send = async (method: string, path: string, json?: unknown): Promise<{ status: number; body: Json }> => {
  const response = await gateway.fetch(path, { method, ...(json !== undefined && { json }) });
  return { status: response.status, body: response.status === 204 ? null : await response.json() };
};
const makeKey = async (settings: object) =>
  (await send('POST', '/config/virtual-keys', { name: 'k', ...settings })).body;
const ask = (key: string, extra: object = {}) =>
  gateway.fetch('/v1/chat/completions', {
    key,
    json: { model: 'gpt-5-mini', max_tokens: 100, messages: [{ role: 'user', content: 'hi' }], ...extra },
  });

describe('organisations, teams, projects and users', () => {
  it('are made, read, changed, listed and deleted', async () => {
    const organisation = await send('POST', '/api/v1/organisations', { name: 'Acme' });
    expect(organisation).toMatchObject({ status: 201, body: { id: expect.stringMatching(/^org-/), name: 'Acme' } });
    const id = `team-${unique()}`;
    const settings = { id, name: 'Platform', organisation: organisation.body.id, markup_percent: 12.5 };
    expect(await send('POST', '/api/v1/teams', settings)).toMatchObject({ status: 201, body: settings });
    expect(await send('PATCH', `/api/v1/teams/${id}`, { name: 'Core' })).toMatchObject({
      status: 200,
      body: { ...settings, name: 'Core' },
    });
    const project = await send('POST', '/api/v1/projects', { name: 'Search', team: id });
    expect(project).toMatchObject({ status: 201, body: { team: id } });
    const email = `${unique()}@example.com`;
    const user = await send('POST', '/api/v1/users', { name: 'Ada', email, team: id, roles: ['viewer'] });
    expect(user).toMatchObject({ status: 201, body: { email, team: id, roles: ['viewer'], is_active: true } });
    expect((await send('GET', `/api/v1/users/${user.body.id}`)).body).toEqual(user.body);

    expect((await send('DELETE', `/api/v1/teams/${id}`)).status).toBe(409);
    expect((await send('DELETE', `/api/v1/users/${user.body.id}`)).status).toBe(204);
    expect((await send('DELETE', `/api/v1/projects/${project.body.id}`)).status).toBe(204);
    expect((await send('DELETE', `/api/v1/teams/${id}`)).status).toBe(204);
    expect((await send('GET', `/api/v1/teams/${id}`)).status).toBe(404);
  });

  it('are paged through', async () => {
    const prefix = `page-${unique()}`;
    for (const n of [1, 2, 3]) await send('POST', '/api/v1/organisations', { id: `${prefix}-${n}`, name: 'o' });
    const first = (await send('GET', `/api/v1/organisations?limit=2&cursor=${prefix}-0`)).body;
    expect(first.data.map(({ id }: { id: string }) => id)).toEqual([`${prefix}-1`, `${prefix}-2`]);
    const second = (await send('GET', `/api/v1/organisations?limit=2&cursor=${first.next_cursor}`)).body;
    expect(second.data[0]).toMatchObject({ id: `${prefix}-3` });
  });

  it.each([
    ['an id that is taken', '/api/v1/teams', { id: 'taken', name: 'x' }, 409, 'conflict'],
    ['an organisation that is not there', '/api/v1/teams', { name: 'x', organisation: 'none' }, 400, 'invalid_request'],
    ['no name', '/api/v1/users', { email: 'a@example.com' }, 400, 'invalid_request'],
    ['a wrong email', '/api/v1/users', { name: 'x', email: 'nonsense' }, 400, 'invalid_request'],
    ['an unknown field', '/api/v1/projects', { name: 'x', colour: 'red' }, 400, 'invalid_request'],
    ['an id with spaces', '/api/v1/teams', { id: 'a b', name: 'x' }, 400, 'invalid_request'],
  ])('with %s are refused', async (_case, path, body, status, code) => {
    await send('POST', '/api/v1/teams', { id: 'taken', name: 'x' });
    expect(await send('POST', path, body)).toMatchObject({ status, body: { error: { code } } });
  });

  it('come into being with the first key that names them', async () => {
    const [team, user, project] = [unique(), unique(), unique()];
    await makeKey({ team, user, project });
    expect((await send('GET', `/api/v1/teams/${team}`)).body).toMatchObject({ id: team, organisation: null });
    expect((await send('GET', `/api/v1/users/${user}`)).body).toMatchObject({ team });
    expect((await send('GET', `/api/v1/projects/${project}`)).body).toMatchObject({ team });
  });
});

describe('a budget', () => {
  it('is made, listed, changed and deleted', async () => {
    const scope = { type: 'team', id: unique() };
    const made = await send('POST', '/api/v1/budgets', { scope, limit_usd: 12.5 });
    expect(made).toMatchObject({
      status: 201,
      body: { scope, period: 'monthly', kind: 'hard', limit_usd: 12.5, spent_usd: 0, reserved_usd: 0 },
    });
    expect(new Date(made.body.resets_at).getUTCDate()).toBe(1);
    expect((await send('POST', '/api/v1/budgets', { scope, limit_usd: 1 })).status).toBe(409);
    const { id } = made.body;
    expect((await send('PATCH', `/api/v1/budgets/${id}`, { limit_usd: 20 })).body).toMatchObject({ limit_usd: 20 });
    const list = await send('GET', `/api/v1/budgets?scope_type=team&scope_id=${scope.id}`);
    expect(list.body).toMatchObject({ data: [{ id, limit_usd: 20 }], next_cursor: null });
    expect((await send('DELETE', `/api/v1/budgets/${id}`)).status).toBe(204);
    expect((await send('GET', `/api/v1/budgets/${id}`)).status).toBe(404);
  });

  it('of a key is its cost cap', async () => {
    const key = await makeKey({ costCap: 3 });
    const budgets = (await send('GET', `/api/v1/budgets?scope_type=key&scope_id=${key.id}`)).body.data;
    expect(budgets).toMatchObject([{ period: 'monthly', kind: 'hard', limit_usd: 3 }]);
    await send('PATCH', `/config/virtual-keys/${key.id}`, { costCap: null });
    expect((await send('GET', `/api/v1/budgets?scope_id=${key.id}`)).body.data).toEqual([]);
  });

  it('of a team holds for all its keys, and names itself when it refuses', async () => {
    const team = unique();
    const [one, two] = [await makeKey({ team }), await makeKey({ team })];
    const scope = { type: 'team', id: team };
    const { id } = (await send('POST', '/api/v1/budgets', { scope, period: 'daily', limit_usd: 0.00025 })).body;
    expect((await ask(one.key)).status).toBe(200);
    const refused = await ask(two.key, { max_tokens: 1_000 });
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({
      error: { code: 'insufficient_quota', message: expect.stringContaining('daily budget of its team') },
    });
    const budget = (await send('GET', `/api/v1/budgets/${id}`)).body;
    expect(budget.reserved_usd).toBe(0);
    expect(budget.spent_usd).toBeGreaterThan(0);
  });

  it('of an organisation holds for its teams, whoever counts for them', async () => {
    const organisation = unique();
    const team = unique();
    await send('POST', '/api/v1/organisations', { id: organisation, name: 'o' });
    await send('POST', '/api/v1/teams', { id: team, name: 't', organisation });
    const scope = { type: 'organisation', id: organisation };
    await send('POST', '/api/v1/budgets', { scope, limit_usd: 0 });
    const service = await makeKey({ kind: 'service' });
    expect((await ask(service.key, { metadata: { team } })).status).toBe(429);
    expect((await ask(service.key)).status).toBe(200);
    const member = await makeKey({ team });
    expect((await ask(member.key)).status).toBe(429);
  });
});
