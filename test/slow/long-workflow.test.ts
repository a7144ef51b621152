import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Agency, askedAs } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion, openaiToolCalls } from '../support/shapes.ts';

const TURNS = 200;
const MEGABYTES = 2 ** 20;

const upstream = new FixtureServer();
let gateway: TestGateway;
let agency: Agency;
let connection: Connection;
let client: Client;
beforeAll(async () => {
  await upstream.start();
  gateway = await startGateway(
    `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 1 }
agents: { allowed_private_hosts: [127.0.0.1] }
`,
    'configured',
  );
  agency = new Agency(gateway);
  connection = await Connection.connect({ address: inject('temporal') });
  client = new Client({ connection });
  for (const name of ['a', 'b', 'c']) {
    const tools = [{ type: 'http', name: 'look', url: `${upstream.url}/look` }];
    await agency.agent(name, { tools, limits: { max_turns: TURNS } });
  }
  // Tools are called until the model is not allowed to any more.
  upstream.reply = (request) => {
    if (request.path === '/look') return { body: { seen: true } };
    if (request.body.tool_choice === 'none') return { body: openaiCompletion(`${askedAs(request)} is done`) };
    return { body: openaiToolCalls(['look', {}]) };
  };
});
afterAll(async () => {
  await gateway.stop();
  await connection.close();
  await upstream.stop();
});

const ended = (id: string): Promise<Json> =>
  eventually(async () => {
    const workflow = await agency.get(id);
    return ['completed', 'failed'].includes(workflow.status) && workflow;
  }, 200_000);

it('an agent of 200 turns has a history of less than 2 MB', async () => {
  const { id } = await agency.start({ pattern: 'single', agent: 'a' });
  expect(await ended(id)).toMatchObject({ status: 'completed', output: 'a is done' });
  const { historySize = 0 } = await client.workflow.getHandle(id).describe();
  expect(historySize).toBeGreaterThan(0);
  expect(historySize).toBeLessThan(2 * MEGABYTES);
  const { data } = await gateway.json(`/workflows/${id}/history`);
  expect(data.filter(({ type }: Json) => type === 'model_call')).toHaveLength(TURNS);
}, 240_000);

it('a longer workflow goes on in a new run, with what waits for people, and does nothing twice', async () => {
  upstream.reset();
  const long = {
    pattern: 'sequential',
    name: 'long',
    steps: ['a', 'b', 'c'].map((agent) => ({ pattern: 'single', agent })),
  };
  const { id } = await agency.start({
    pattern: 'parallel',
    branches: [long, { pattern: 'human_in_loop', name: 'ask', title: 'ok?' }],
  });
  const approval = await agency.pending(id);
  const first = (await client.workflow.getHandle(id).describe()).runId;
  await eventually(async () => (await client.workflow.getHandle(id).describe()).runId !== first, 200_000);
  await agency.post('/approvals', { approval_id: approval.id, decision: 'approve' });
  const workflow = await ended(id);
  expect(workflow).toMatchObject({ status: 'completed' });
  expect(JSON.parse(workflow.output)).toEqual({ long: 'c is done', ask: 'the input' });
  const calls = upstream.received.filter(({ path }) => path !== '/look');
  expect(calls).toHaveLength(3 * TURNS);
  const looks = upstream.received.filter(({ path }) => path === '/look');
  expect(new Set(looks.map(({ headers }) => headers['idempotency-key'])).size).toBe(looks.length);
  expect(looks).toHaveLength(3 * (TURNS - 1));
}, 400_000);
