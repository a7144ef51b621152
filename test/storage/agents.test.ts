import { sql } from 'kysely';
import { expect, it } from 'vitest';
import type { PromptAgent, RemoteAgent } from '../../domain/agent.ts';
import { createCipher } from '../../storage/cipher.ts';
import { type Agent, Agents, type NewAgent } from '../../storage/postgres/agents.ts';
import { ENCRYPTION_KEY, onEveryDatabase } from '../support/databases.ts';

const PROMPT: PromptAgent = {
  kind: 'prompt',
  model: 'smart',
  instructions: 'planted instructions',
  tools: [],
  parameters: {},
  limits: { maxTurns: 20 },
};
const REMOTE: RemoteAgent = {
  kind: 'remote',
  url: 'https://agent.example',
  headers: { authorization: 'Bearer planted-token' },
  timeoutMs: 60_000,
  maxAttempts: 3,
};

onEveryDatabase('agents', (database) => {
  const agents = () => new Agents(database.db, createCipher(ENCRYPTION_KEY));
  const unique = (name: string) => `${name}-${crypto.randomUUID()}`;
  const agentOf = (overrides: Partial<NewAgent> = {}): NewAgent => ({
    owner: unique('team:red'),
    project: null,
    name: 'researcher',
    description: '',
    capabilities: [],
    definition: PROMPT,
    heartbeatSeconds: null,
    ...overrides,
  });
  const register = async (overrides?: Partial<NewAgent>): Promise<Agent> =>
    (await agents().register(agentOf(overrides))).agent;
  const remote = (overrides: Partial<NewAgent> = {}) =>
    register({ definition: REMOTE, heartbeatSeconds: 30, name: unique('remote'), ...overrides });
  const silentFor = (id: string, seconds: number) =>
    sql`UPDATE agents SET heartbeat_at = now() - ${seconds} * interval '1 second' WHERE id = ${id}`.execute(
      database.db,
    );
  /** Steps of a run, as many as are given. */
  const work = async (agentId: string, ...states: readonly string[]) => {
    const run = unique('run');
    await sql`
      INSERT INTO runs (id, kind, owner, state, priority, input_ref, metadata, deadline_at)
      VALUES (${run}, 'chat.completion', 'master', 'running', 3, 'x', '{}', now())`.execute(database.db);
    for (const [i, state] of states.entries()) {
      await sql`
        INSERT INTO run_steps (run_id, name, pattern, agent_id, state)
        VALUES (${run}, ${`s${i}`}, 'single', ${agentId}, ${state})`.execute(database.db);
    }
  };

  it('are found as they were registered', async () => {
    const given = agentOf({ project: 'search', description: 'Finds.', capabilities: ['b', 'a', 'b'] });
    const { agent, isNew } = await agents().register(given);
    expect(isNew).toBe(true);
    expect(agent).toEqual({
      ...given,
      capabilities: ['b', 'a'],
      id: expect.stringMatching(/^agent-/),
      health: 'healthy',
      load: 0,
      heartbeatAt: null,
      createdAt: expect.any(Date),
      updatedAt: expect.any(Date),
    });
    expect(await agents().get(agent.id, undefined)).toEqual(agent);
  });

  it('are replaced under their name, and keep their id', async () => {
    const owner = unique('team:red');
    const first = await remote({ owner, name: 'a' });
    await agents().heartbeat(first.id, undefined, { load: 5 });
    await sql`UPDATE agents SET updated_at = now() - interval '1 minute' WHERE id = ${first.id}`.execute(database.db);
    const second = await agents().register(agentOf({ owner, name: 'a', description: 'new', capabilities: ['x'] }));
    expect(second).toMatchObject({
      isNew: false,
      agent: {
        id: first.id,
        description: 'new',
        capabilities: ['x'],
        definition: PROMPT,
        heartbeatSeconds: null,
        load: 0,
      },
    });
    expect(second.agent.createdAt).toEqual(first.createdAt);
    expect(second.agent.updatedAt.getTime()).toBeGreaterThanOrEqual(first.updatedAt.getTime());
    expect((await register({ name: 'a' })).id).not.toBe(first.id);
  });

  it('are not replaced by another project', async () => {
    const owner = unique('team:red');
    const { id } = await register({ owner, name: 'a', project: 'search' });
    for (const project of ['ads', null]) {
      const other = agents().register(agentOf({ owner, name: 'a', project, description: 'theirs' }));
      await expect(other).rejects.toMatchObject({ code: 'caller_conflict', param: 'name' });
    }
    expect(await agents().get(id, undefined)).toMatchObject({ project: 'search', description: '' });
  });

  it('are stored sealed', async () => {
    const agent = await remote();
    const prompt = await register();
    const { rows } = await sql<{ row: string }>`
      SELECT a::text || encode(a.definition, 'escape') AS row FROM agents a
      WHERE id IN (${agent.id}, ${prompt.id})`.execute(database.db);
    expect(rows).toHaveLength(2);
    for (const { row } of rows) expect(row).not.toContain('planted');
    expect((await agents().get(agent.id, undefined))?.definition).toEqual(REMOTE);
  });

  it('are unhealthy when they were silent for too long, until they report again', async () => {
    const { id, health, heartbeatAt } = await remote();
    expect([health, heartbeatAt]).toEqual(['healthy', expect.any(Date)]);
    await silentFor(id, 29);
    expect(await agents().get(id, undefined)).toMatchObject({ health: 'healthy' });
    await silentFor(id, 31);
    expect(await agents().get(id, undefined)).toMatchObject({ health: 'unhealthy' });
    expect(await agents().heartbeat(id, undefined, { load: undefined })).toMatchObject({ id, health: 'healthy' });
  });

  it('that need not report are always healthy', async () => {
    const { id } = await remote({ heartbeatSeconds: null });
    await silentFor(id, 1_000_000);
    expect(await agents().get(id, undefined)).toMatchObject({ health: 'healthy', heartbeatSeconds: null });
  });

  it('have the load that they report and that of the steps they do here', async () => {
    const { id } = await remote();
    await work(id, 'running', 'running', 'completed');
    expect(await agents().get(id, undefined)).toMatchObject({ load: 2 });
    expect(await agents().heartbeat(id, undefined, { load: 3 })).toMatchObject({ load: 5 });
    expect(await agents().heartbeat(id, undefined, { load: undefined })).toMatchObject({ load: 5 });
  });

  it('are seen by their owner, and in a project by the project only', async () => {
    const owner = unique('team:red');
    const { id } = await register({ owner, project: 'search', capabilities: [owner] });
    for (const visible of [undefined, { owner }, { owner, project: 'search' }]) {
      expect(await agents().get(id, visible)).toMatchObject({ id });
      expect(await agents().list({ visible, capability: owner, limit: 10 })).toMatchObject([{ id }]);
      expect(await agents().capabilities(visible)).toContainEqual({ capability: owner, agents: 1, healthy: 1 });
    }
    for (const visible of [{ owner: 'team:blue' }, { owner, project: 'ads' }]) {
      expect(await agents().get(id, visible)).toBeUndefined();
      expect(await agents().list({ visible, capability: owner, limit: 10 })).toEqual([]);
      expect((await agents().capabilities(visible)).map(({ capability }) => capability)).not.toContain(owner);
      expect(await agents().heartbeat(id, visible, { load: 9 })).toBeUndefined();
      expect(await agents().remove(id, visible)).toBe(false);
    }
    expect(await agents().get(id, undefined)).toMatchObject({ load: 0 });
    expect(await agents().remove(id, { owner })).toBe(true);
    expect(await agents().remove(id, { owner })).toBe(false);
  });

  it('of the master key are for everybody to see and use, and for nobody else to change', async () => {
    const name = unique('shared');
    const { id } = await register({ owner: 'master', name });
    const visible = { owner: unique('team:red'), project: 'search' };
    expect(await agents().get(id, visible)).toMatchObject({ id });
    expect(await agents().find(name, visible)).toMatchObject({ id });
    expect(await agents().find(id, visible)).toMatchObject({ id });
    expect(await agents().heartbeat(id, visible, { load: 9 })).toBeUndefined();
    expect(await agents().remove(id, visible)).toBe(false);
    await agents().remove(id, undefined);
  });

  it('are found by id or name, one’s own first', async () => {
    const name = unique('shared');
    const user = { owner: unique('team:red'), project: null };
    const shared = await register({ owner: 'master', name });
    await register({ name });
    expect(await agents().find(name, user)).toMatchObject({ id: shared.id });
    const own = await register({ owner: user.owner, name });
    expect(await agents().find(name, user)).toMatchObject({ id: own.id });
    expect(await agents().find(shared.id, user)).toMatchObject({ id: shared.id });
    const other = await register();
    expect(await agents().find(other.id, user)).toBeUndefined();
    await agents().remove(shared.id, undefined);
  });

  it('are chosen by what they can do: the healthy one with least to do', async () => {
    const user = { owner: unique('team:red'), project: null };
    const capability = unique('translate');
    const can = { owner: user.owner, capabilities: ['other', capability] };
    const chosen = async () => (await agents().choose(capability, user))?.id;
    expect(await chosen()).toBeUndefined();
    const [busy, silent, free] = [await remote(can), await remote(can), await remote(can)];
    await remote({ ...can, owner: 'team:blue' });
    await remote({ ...can, capabilities: ['other'] });
    await silentFor(silent.id, 60);
    await agents().heartbeat(busy.id, undefined, { load: 2 });
    await work(free.id, 'running');
    expect(await chosen()).toBe(free.id);
    await work(free.id, 'running', 'running');
    expect(await chosen()).toBe(busy.id);
    await silentFor(busy.id, 60);
    await silentFor(free.id, 60);
    expect(await chosen()).toBeUndefined();
    const shared = await register({ owner: 'master', name: unique('shared'), capabilities: [capability] });
    expect(await chosen()).toBe(shared.id);
    await agents().remove(shared.id, undefined);
  });

  it('that have the same to do take turns by chance', async () => {
    const user = { owner: unique('team:red'), project: null };
    for (const name of ['a', 'b']) await register({ owner: user.owner, name, capabilities: ['translate'] });
    const names = new Set<string | undefined>();
    for (let i = 0; i < 40; i++) names.add((await agents().choose('translate', user))?.name);
    expect(names).toEqual(new Set(['a', 'b']));
  });

  it('are listed newest first, page by page, by kind and by capability', async () => {
    const owner = unique('team:red');
    const visible = { owner };
    const ids: string[] = [];
    for (const name of ['a', 'b', 'c']) ids.unshift((await register({ owner, name, capabilities: [owner] })).id);
    const far = `${owner}-far`;
    await register({ owner, name: 'prompt', capabilities: [far] });
    const { id } = await remote({ owner, capabilities: [far] });
    const page = (more: object = {}) => agents().list({ visible, capability: owner, limit: 2, ...more });
    expect((await page()).map((agent) => agent.id)).toEqual(ids.slice(0, 2));
    expect((await page({ cursor: ids[1] })).map((agent) => agent.id)).toEqual(ids.slice(2));
    const remotes = await agents().list({ visible, kind: 'remote', capability: far, limit: 10 });
    expect(remotes.map((agent) => agent.id)).toEqual([id]);
  });

  it('are counted by capability, the healthy ones too', async () => {
    const owner = unique('team:red');
    const [one, two] = [unique('one'), unique('two')];
    const { id } = await remote({ owner, capabilities: [one, two] });
    await remote({ owner, capabilities: [one] });
    await silentFor(id, 60);
    const counts = await agents().capabilities({ owner });
    expect(counts).toContainEqual({ capability: one, agents: 2, healthy: 1 });
    expect(counts).toContainEqual({ capability: two, agents: 1, healthy: 0 });
  });
});
