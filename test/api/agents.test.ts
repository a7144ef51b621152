import { sql } from 'kysely';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/databases.ts';
import { type Json, startGateway, type TestGateway } from '../support/gateway.ts';

const database = useDatabase();
let log = '';
let gateway: TestGateway;
beforeAll(async () => {
  const write = (line: string) => {
    log += line;
  };
  const yaml = 'providers: { demo: { type: demo } }\nagents: { allowed_private_hosts: [10.1.2.3] }';
  gateway = await startGateway(yaml, 'configured', { logger: pino({ level: 'trace' }, { write }) });
});
afterAll(() => gateway.stop());

const unique = (name: string) => `${name}-${crypto.randomUUID()}`;
const makeKey = async (settings: object = {}): Promise<string> =>
  (await gateway.json('/config/virtual-keys', { json: { name: 'k', ...settings } })).key;
const promptAgent = (overrides: object = {}) => ({
  name: unique('a'),
  kind: 'prompt',
  model: 'demo',
  instructions: 'Find it out.',
  ...overrides,
});
const remoteAgent = (overrides: object = {}) => ({
  name: unique('r'),
  kind: 'remote',
  url: 'https://agent.example/run?token=planted-token',
  ...overrides,
});
const register = async (json: object, key?: string): Promise<{ status: number; body: Json }> => {
  const answer = await gateway.fetch('/agents/register', { json, ...(key && { key }) });
  return { status: answer.status, body: await answer.json() };
};
const ask = async (path: string, key?: string, init: object = {}): Promise<{ status: number; body: Json }> => {
  const answer = await gateway.fetch(path, { ...init, ...(key && { key }) });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : undefined };
};
const heartbeat = (id: string, json: object = {}, key?: string) => ask(`/agents/${id}/heartbeat`, key, { json });

describe('an agent', () => {
  it('is registered, replaced under its name, and removed', async () => {
    const key = await makeKey({ team: unique('team') });
    const tools = [
      {
        type: 'http',
        name: 'weather',
        description: 'Tells it.',
        method: 'GET',
        url: 'https://api.example/{city}?token=planted-token',
        parameters: { type: 'object', properties: { city: { type: 'string' } } },
        requires_approval: true,
      },
    ];
    const limits = { max_turns: 3, approve_over_usd: 0.5 };
    const json = promptAgent({ capabilities: ['weather'], description: 'Knows.', tools, limits });
    const made = await register(json, key);
    expect(made.status).toBe(201);
    const now = Date.now() / 1000;
    expect(made.body).toEqual({
      id: expect.stringMatching(/^agent-/),
      object: 'agent',
      name: json.name,
      kind: 'prompt',
      description: 'Knows.',
      capabilities: ['weather'],
      health: 'healthy',
      load: 0,
      model: 'demo',
      instructions: 'Find it out.',
      tools: [
        {
          name: 'weather',
          description: 'Tells it.',
          method: 'GET',
          url: 'https://api.example/{city}',
          requires_approval: true,
        },
      ],
      header_names: [],
      limits,
      heartbeat_seconds: null,
      last_heartbeat_at: null,
      created_at: expect.any(Number),
      updated_at: expect.any(Number),
    });
    expect(Math.abs(made.body.created_at - now)).toBeLessThan(60);

    const { id } = made.body;
    const replaced = await register({ ...json, tools: [], instructions: 'Guess.' }, key);
    expect(replaced).toMatchObject({ status: 200, body: { id, instructions: 'Guess.', tools: [] } });
    expect(await ask(`/agents/${id}`, key)).toMatchObject({ status: 200, body: replaced.body });
    expect((await ask(`/agents/${id}`, key, { method: 'DELETE' })).status).toBe(204);
    expect((await ask(`/agents/${id}`, key)).body.error.code).toBe('not_found');
    expect((await ask(`/agents/${id}`, key, { method: 'DELETE' })).status).toBe(404);
  });

  it('has the operations of an OpenAPI document as tools', async () => {
    const paths = { '/pets/{id}': { get: { operationId: 'getPet', parameters: [{ in: 'path', name: 'id' }] } } };
    const spec = { openapi: '3.0.3', servers: [{ url: 'https://api.example' }], paths };
    const { body } = await register(promptAgent({ tools: [{ type: 'openapi', spec }] }), await makeKey());
    expect(body.tools).toMatchObject([{ name: 'getPet', method: 'GET', url: 'https://api.example/pets/{id}' }]);
  });

  it('of somebody else is unhealthy when it is silent, until its next heartbeat', async () => {
    const key = await makeKey({ team: unique('team') });
    const { body } = await register(remoteAgent({ heartbeat_seconds: 30 }), key);
    expect(body).toMatchObject({ health: 'healthy', heartbeat_seconds: 30, last_heartbeat_at: expect.any(Number) });
    await sql`UPDATE agents SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE id = ${body.id}`.execute(
      database.db,
    );
    expect((await ask(`/agents/${body.id}`, key)).body).toMatchObject({ health: 'unhealthy', load: 0 });
    const told = await heartbeat(body.id, { load: 4 }, key);
    expect(told).toMatchObject({ status: 200, body: { id: body.id, health: 'healthy', load: 4 } });
    expect((await heartbeat(body.id, {}, key)).body).toMatchObject({ load: 4 });
    expect((await heartbeat(body.id, { load: -1 }, key)).body.error).toMatchObject({ param: 'load' });
  });

  it('is its team’s: others neither see it nor change it', async () => {
    const team = unique('team');
    const capability = unique('can');
    const [mine, mate] = [await makeKey({ team }), await makeKey({ team })];
    const json = promptAgent({ capabilities: [capability] });
    const { id } = (await register(json, mine)).body;
    for (const key of [mine, mate, undefined]) {
      expect((await ask(`/agents/${id}`, key)).status).toBe(200);
      expect((await ask(`/agents?capability=${capability}`, key)).body.data).toMatchObject([{ id }]);
      const { data } = (await ask('/capabilities', key)).body;
      expect(data).toContainEqual({ capability, agents: 1, healthy: 1 });
    }
    for (const settings of [{ team: unique('team') }, { team: unique('team'), roles: ['admin'] }, {}]) {
      const key = await makeKey(settings);
      expect((await ask(`/agents/${id}`, key)).status).toBe(404);
      expect((await ask(`/agents?capability=${capability}`, key)).body.data).toEqual([]);
      expect(JSON.stringify((await ask('/capabilities', key)).body)).not.toContain(capability);
      expect((await heartbeat(id, { load: 1 }, key)).status).toBe(404);
      expect((await ask(`/agents/${id}`, key, { method: 'DELETE' })).status).toBe(404);
      expect((await register(json, key)).body.id).not.toBe(id);
    }
    const viewer = await makeKey({ team, roles: ['viewer'] });
    expect((await register(promptAgent(), viewer)).status).toBe(403);
    expect((await ask(`/agents/${id}`, mine)).body).toMatchObject({ load: 0 });
  });

  it('of the master key is everybody’s to see, and its own to change', async () => {
    const { id } = (await register(promptAgent())).body;
    const key = await makeKey({ team: unique('team') });
    expect((await ask(`/agents/${id}`, key)).status).toBe(200);
    expect((await heartbeat(id, { load: 1 }, key)).status).toBe(404);
    expect((await ask(`/agents/${id}`, key, { method: 'DELETE' })).status).toBe(404);
    expect((await ask(`/agents/${id}`, undefined, { method: 'DELETE' })).status).toBe(204);
  });

  it('keeps a name that another project of its team has taken', async () => {
    const team = unique('team');
    const project = unique('search');
    const json = promptAgent();
    await register(json, await makeKey({ team, project }));
    const other = await register(json, await makeKey({ team, project: unique('ads') }));
    expect(other).toMatchObject({ status: 409, body: { error: { code: 'conflict', param: 'name' } } });
  });

  it('is found page by page, by kind', async () => {
    const key = await makeKey({ team: unique('team') });
    const capability = unique('can');
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.unshift((await register(remoteAgent({ capabilities: [capability] }), key)).body.id);
    await register(promptAgent({ capabilities: [capability] }), key);
    const page = `/agents?kind=remote&capability=${capability}&limit=2`;
    const first = (await ask(page, key)).body;
    expect(first.data.map((agent: Json) => agent.id)).toEqual(ids.slice(0, 2));
    const second = (await ask(`${page}&cursor=${first.next_cursor}`, key)).body;
    expect(second).toMatchObject({ data: [{ id: ids[2] }], next_cursor: null });
  });

  it('may be where the operator allows it', async () => {
    expect((await register(remoteAgent({ url: 'http://10.1.2.3/run' }))).status).toBe(201);
  });

  it('tells of its headers no more than their names', async () => {
    const headers = { Authorization: 'Bearer planted-secret', 'X-Key': 'planted-key' };
    const tool = { type: 'http', name: 't', url: 'https://api.example/?token=planted-token', headers };
    const key = await makeKey({ team: unique('team') });
    const theirs = await register(remoteAgent({ headers }), key);
    expect(theirs.body).toMatchObject({
      url: 'https://agent.example/run',
      header_names: ['authorization', 'x-key'],
      model: null,
      tools: [],
      limits: null,
    });
    const ours = await register(promptAgent({ tools: [tool] }), key);
    expect(ours.status).toBe(201);
    const read = await ask(`/agents/${theirs.body.id}`, key);
    const listed = await ask('/agents', key);
    const { rows } = await sql`SELECT a::text, encode(a.definition, 'escape') FROM agents a`.execute(database.db);
    for (const text of [theirs, ours, read, listed, rows].map((shown) => JSON.stringify(shown))) {
      expect(text.length).toBeGreaterThan(100);
      expect(text).not.toContain('planted');
    }
    expect(log).not.toContain('planted');
  });
});

describe('a body that makes no agent', () => {
  const tool = (overrides: object) => ({
    tools: [{ type: 'http', name: 't', url: 'https://api.example', ...overrides }],
  });
  it.each<[string, object, string]>([
    ['without a name', promptAgent({ name: undefined }), 'name'],
    ['of an unknown kind', promptAgent({ kind: 'cat' }), 'kind'],
    ['with a field that there is not', promptAgent({ colour: 'red' }), 'colour'],
    ['with a tool without a URL', promptAgent(tool({ url: undefined })), 'tools[0].url'],
    [
      'with a tool that is not public',
      promptAgent(tool({ url: 'http://169.254.169.254/{a}', parameters: { type: 'object', properties: { a: {} } } })),
      'tools',
    ],
    [
      'with a tool whose schema is none',
      promptAgent(tool({ parameters: { type: 'object', properties: { a: { type: 'text' } } } })),
      'tools',
    ],
    ['with a schema that is none', promptAgent({ output_schema: { required: 'a' } }), 'output_schema'],
    ['with an OpenAPI document that is none', promptAgent({ tools: [{ type: 'openapi', spec: {} }] }), 'tools[0].spec'],
    ['with a place that is not public', remoteAgent({ url: 'http://127.0.0.1/' }), 'url'],
    ['with a password in its URL', remoteAgent({ url: 'https://a:b@agent.example/' }), 'url'],
    ['with a header of two lines', remoteAgent({ headers: { a: 'b\nc: d' } }), 'headers.a'],
  ])('is a 400 %s', async (_name, json, param) => {
    expect(await register(json)).toMatchObject({
      status: 400,
      body: { error: { param, code: 'invalid_request', type: 'invalid_request_error' } },
    });
  });

  it('is a 404 with a model that there is not', async () => {
    expect(await register(promptAgent({ model: 'nobody/knows' }))).toMatchObject({
      status: 404,
      body: { error: { code: 'model_not_found', param: 'model' } },
    });
  });

  it('is a 400 as an id too, and in a query', async () => {
    for (const path of ['/agents/%00', '/agents?cursor=%00', '/agents?capability=%00', '/agents?kind=cat']) {
      expect(await ask(path)).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } });
    }
  });
});
