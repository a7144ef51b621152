import Fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Authenticator } from '../../api/auth/authenticator.ts';
import { keyCaller, MASTER, namedCaller, visibleTo } from '../../api/auth/caller.ts';
import { audit } from '../../api/plugins/audit.ts';
import { auth } from '../../api/plugins/auth.ts';
import type { AuditLog } from '../../storage/postgres/audit-log.ts';
import type { VirtualKey } from '../../storage/postgres/virtual-keys.ts';
import { KEY_SETTINGS } from '../support/databases.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';

/** All that anybody may call. Who adds to it opens a door. */
const PUBLIC = [
  'GET /',
  'GET /docs',
  'GET /docs*',
  'GET /docs/json',
  'GET /docs/static/index.html',
  'GET /docs/static/swagger-initializer.js',
  'GET /docs/yaml',
  'GET /health',
  'GET /health/live',
  'GET /health/ready',
  'GET /openapi.json',
  'POST /auth/login',
];
/** All that everybody with a key may call. */
const FOR_EVERYBODY = [
  'GET /api/v1/models',
  'GET /api/v1/models/:id',
  'GET /approvals/:id',
  'GET /approvals/pending',
  'GET /auth/me',
  'GET /providers',
  'GET /v1/models',
  // A workflow says itself who may decide.
  'POST /approvals',
];

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway('providers: { demo: { type: demo } }', 'configured');
});
afterAll(() => gateway.stop());

const unique = () => crypto.randomUUID();
const makeKey = async (settings: Record<string, unknown> = {}, key?: string) => {
  const json = { name: 'test', ...settings };
  const response = await gateway.fetch('/config/virtual-keys', { json, ...(key && { key }) });
  expect(response.status).toBe(201);
  return (await response.json()) as { id: string; key: string; team: string | null; roles: string[] };
};
const statusOf = async (path: string, key: string, init: RequestInit & { json?: unknown } = {}) =>
  (await gateway.fetch(path, { ...init, key })).status;
const ask = async (key: string) => {
  const json = { model: 'demo', messages: [{ role: 'user', content: 'hi' }] };
  const response = await gateway.fetch('/v1/chat/completions', { key, json, headers: { 'x-request-id': unique() } });
  expect(response.status).toBe(200);
  return { id: ((await response.json()) as { id: string }).id, requestId: response.headers.get('x-request-id') };
};

/** Every route there is, from the router's tree: four characters of indentation are a level. */
function operations(): { name: string; method: string; path: string }[] {
  const tree = gateway.gateway.app?.printRoutes({ commonPrefix: false }) ?? '';
  const prefixes: string[] = [];
  return tree.split('\n').flatMap((line) => {
    const [, indent = '', segment = '', methods = ''] = /^([│├└─ ]+)(\S+) \(([A-Z, ]+)\)$/.exec(line) ?? [];
    const level = indent.length / 4;
    const path = (prefixes[level - 1] ?? '') + segment;
    prefixes[level] = path;
    return methods
      .split(', ')
      .filter((method) => method && method !== 'HEAD')
      .map((method) => ({ name: `${method} ${path}`, method, path: path.replaceAll(/:\w+/g, 'none') }));
  });
}
const call = ({ method, path }: { method: string; path: string }, key?: string) =>
  fetch(gateway.url + path, {
    method,
    ...(!['GET', 'DELETE'].includes(method) && { body: '{}' }),
    headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
  });

describe('every route', () => {
  it('lets in who has a permission, or is open on purpose', async () => {
    const all = operations();
    expect(all.map(({ name }) => name)).toContain('PATCH /config/virtual-keys/:id');
    const { key } = await makeKey({ roles: [] });
    const open = [];
    const forEverybody = [];
    for (const operation of all) {
      const { status, headers } = await call(operation);
      if (status !== 401 || !headers.has('www-authenticate')) {
        open.push(operation.name);
        continue;
      }
      const refused = await call(operation, key);
      if (refused.status !== 403) forEverybody.push(operation.name);
      else expect(await refused.text()).toMatch(/needs the permission '\w+:\w+'/);
    }
    // POST /auth/login answers an empty body with a 400.
    expect(open.sort()).toEqual(PUBLIC);
    expect(forEverybody.sort()).toEqual(FOR_EVERYBODY);
  });

  it('must say whom it lets in and, if it changes something, what to call that', async () => {
    const app = Fastify();
    await app.register(auth, { authenticator: {} as Authenticator });
    await app.register(audit, { auditLog: {} as AuditLog });
    const serve = () => 'served';
    expect(() => app.get('/forgotten', serve)).toThrow(/GET \/forgotten must say/);
    expect(() => app.get('/both', { config: { needs: 'ledger:read', access: 'public' } }, serve)).toThrow(/must say/);
    expect(() => app.post('/unaudited', { config: { needs: 'settings:manage' } }, serve)).toThrow(/audit log/);
    app.get('/fine', { config: { needs: 'settings:manage' } }, serve);
    await app.close();
  });
});

describe('whoever', () => {
  const key = (settings: Partial<VirtualKey>) => keyCaller({ ...KEY_SETTINGS, id: 'vk-1', ...settings } as VirtualKey);
  const nobody = { team: null, project: null, user: null, roles: [] };

  it('asks owns the request; it is the master key’s only if that asked', () => {
    expect(MASTER.owner).toBe('master');
    expect(key({}).owner).toBe('key:vk-1');
    expect(key({ team: 'a' }).owner).toBe('team:a');
    expect(namedCaller('user', 'ann', { ...nobody, user: 'ann' }).owner).toBe('user:ann');
    expect(namedCaller('user', 'ann', { ...nobody, user: 'ann', team: 'a' }).owner).toBe('team:a');
    expect(namedCaller('client', 'master', nobody).owner).toBe('client:master');
  });

  it('belongs to a team sees that, an admin of no team sees everything', () => {
    expect(visibleTo(MASTER)).toBeUndefined();
    expect(visibleTo(key({ roles: ['admin'] }))).toBeUndefined();
    expect(visibleTo(key({ roles: ['admin'], team: 'a' }))).toEqual({ owner: 'team:a' });
    expect(visibleTo(key({ roles: ['operator'] }))).toEqual({ owner: 'key:vk-1' });
    expect(visibleTo(key({ roles: ['admin'], project: 'p' }))).toEqual({ owner: 'key:vk-1', project: 'p' });
  });
});

describe('a caller of a team', () => {
  it('reads nothing of another team, whatever its role', async () => {
    const [mine, theirs] = [unique(), unique()];
    const owner = await makeKey({ team: mine });
    const { id, requestId } = await ask(owner.key);
    const mate = await makeKey({ team: mine });
    const outsiders = await Promise.all([
      makeKey({ team: theirs }),
      makeKey({ team: theirs, roles: ['admin'] }),
      makeKey({ roles: ['developer', 'operator', 'approver', 'viewer'] }),
    ]);
    const paths = [`/logs/${id}`, `/v1/chat/completions/${id}`, `/v1/chat/completions/${requestId}`];
    for (const path of paths) {
      expect(await statusOf(path, mate.key)).toBe(200);
      for (const outsider of outsiders) expect(await statusOf(path, outsider.key)).toBe(404);
    }
    for (const { key } of outsiders) {
      for (const query of ['', `?team=${mine}`, `?key=${owner.id}`, `?cursor=${id}`]) {
        expect(await gateway.json(`/logs${query}`, { key })).toMatchObject({ data: [] });
      }
      for (const group of ['team', 'key', 'user', 'model']) {
        expect(await gateway.json(`/metrics/usage?group_by=${group}&team=${mine}`, { key })).toEqual({ data: [] });
        expect(await gateway.json(`/metrics/usage?group_by=${group}`, { key })).toEqual({ data: [] });
      }
    }
    const admin = await makeKey({ roles: ['admin'] });
    for (const path of paths.slice(0, 2)) expect(await statusOf(path, admin.key)).toBe(200);
  });

  it('and of a project reads nothing of the team’s other projects', async () => {
    const team = unique();
    const [search, ads] = [`search-${team}`, `ads-${team}`];
    const owner = await makeKey({ team, project: search });
    const { id, requestId } = await ask(owner.key);
    const [mate, stranger, lead] = await Promise.all([
      makeKey({ team, project: search }),
      makeKey({ team, project: ads, roles: ['admin'] }),
      makeKey({ team }),
    ]);
    for (const path of [`/logs/${id}`, `/v1/chat/completions/${id}`, `/v1/chat/completions/${requestId}`]) {
      for (const { key } of [mate, lead]) expect(await statusOf(path, key)).toBe(200);
      expect(await statusOf(path, stranger.key)).toBe(404);
    }
    expect(await gateway.json('/logs', { key: stranger.key })).toMatchObject({ data: [] });
    expect(await gateway.json('/metrics/usage', { key: stranger.key })).toEqual({ data: [] });
    expect(await gateway.json('/api/v1/costs/summary', { key: stranger.key })).toMatchObject({ data: [] });
  });

  it('reads its own and its team’s budgets, and changes none', async () => {
    const [team, other] = [unique(), unique()];
    const [mate, lead] = await Promise.all([makeKey({ team, costCap: 5 }), makeKey({ team, roles: ['admin'] })]);
    const outsider = await makeKey({ team: other, roles: ['admin'] });
    const scope = { type: 'team', id: team };
    const { id } = await gateway.json('/api/v1/budgets', { json: { scope, limit_usd: 100 } });
    const scopesSeen = async (key: string, query = '') =>
      (await gateway.json(`/api/v1/budgets${query}`, { key })).data.map((budget: { scope: object }) => budget.scope);
    expect(await scopesSeen(mate.key)).toEqual([{ type: 'key', id: mate.id }, scope]);
    expect(await scopesSeen(lead.key)).toEqual([scope]);
    expect(await scopesSeen(outsider.key, `?scope_type=team&scope_id=${team}`)).toEqual([]);
    const path = `/api/v1/budgets/${id}`;
    expect(await statusOf(path, mate.key)).toBe(200);
    expect(await statusOf(path, outsider.key)).toBe(404);
    for (const { key } of [lead, outsider]) {
      expect(await statusOf(path, key, { method: 'PATCH', json: { limit_usd: 1_000 } })).toBe(403);
      for (const table of ['teams', 'users', 'projects', 'organisations']) {
        expect(await statusOf(`/api/v1/${table}`, key)).toBe(403);
      }
    }
  });

  it('administers the keys of its team only', async () => {
    const [team, other] = [unique(), unique()];
    const lead = await makeKey({ team, roles: ['admin'] });
    const [own, foreign, free] = await Promise.all([makeKey({ team }), makeKey({ team: other }), makeKey()]);
    const made = await makeKey({}, lead.key);
    expect(made).toMatchObject({ team, roles: ['developer'] });

    const { data } = await gateway.json('/config/virtual-keys', { key: lead.key });
    expect(data.map((key: { id: string }) => key.id).sort()).toEqual([lead.id, own.id, made.id].sort());
    for (const { id } of [foreign, free]) {
      const path = `/config/virtual-keys/${id}`;
      expect(await statusOf(path, lead.key)).toBe(404);
      expect(await statusOf(path, lead.key, { method: 'PATCH', json: { name: 'mine' } })).toBe(404);
      expect(await statusOf(path, lead.key, { method: 'DELETE' })).toBe(404);
      expect(await gateway.json(path)).toMatchObject({ name: 'test' });
    }
    expect(await statusOf(`/config/virtual-keys/${own.id}`, lead.key, { method: 'DELETE' })).toBe(204);
  });

  it('cannot get out of its team through a key', async () => {
    const [team, other] = [unique(), unique()];
    const lead = await makeKey({ team, roles: ['admin'] });
    await makeKey({ team: other, project: `p-${other}`, user: `u-${other}` });
    const forbidden = [
      { team: other },
      { team: null },
      { project: `p-${other}` },
      { user: `u-${other}` },
      { kind: 'service' },
    ];
    for (const change of forbidden) {
      expect(await statusOf('/config/virtual-keys', lead.key, { json: { name: 'x', ...change } })).toBe(403);
      const path = `/config/virtual-keys/${lead.id}`;
      expect(await statusOf(path, lead.key, { method: 'PATCH', json: change })).toBe(403);
    }
    expect(await statusOf('/api/v1/audit-log', lead.key)).toBe(403);
    const change = { project: `p-${team}`, user: `u-${team}`, roles: ['viewer'] };
    const own = await makeKey({}, lead.key);
    expect(await statusOf(`/config/virtual-keys/${own.id}`, lead.key, { method: 'PATCH', json: change })).toBe(200);
    // Twice: the first made project and user the team's.
    expect(await statusOf('/config/virtual-keys', lead.key, { json: { name: 'x', ...change } })).toBe(201);
  });

  it('loses its key with its user', async () => {
    const user = `u-${unique()}`;
    const { key } = await makeKey({ user });
    expect(await statusOf('/auth/me', key)).toBe(200);
    await gateway.fetch(`/api/v1/users/${user}`, { method: 'PATCH', json: { is_active: false } });
    await eventually(async () => (await statusOf('/auth/me', key)) === 401);
  });
});

describe('a role', () => {
  it('decides what a key may do, and an unknown one is refused', async () => {
    const viewer = await makeKey({ roles: ['viewer'] });
    const json = { model: 'demo', messages: [{ role: 'user', content: 'hi' }] };
    const refused = await gateway.fetch('/v1/chat/completions', { key: viewer.key, json });
    expect(refused.status).toBe(403);
    expect(await refused.json()).toEqual({
      error: {
        message: "This needs the permission 'models:call'.",
        type: 'permission_error',
        param: null,
        code: 'forbidden',
      },
    });
    expect(await statusOf('/logs', viewer.key)).toBe(200);
    const wrong = await gateway.fetch('/config/virtual-keys', { json: { name: 'x', roles: ['root'] } });
    expect(wrong.status).toBe(400);
  });
});
