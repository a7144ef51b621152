import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Agency, askedAs, echo } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';

const upstream = new FixtureServer();
let gateway: TestGateway;
let agency: Agency;
let connection: Connection;
let client: Client;
beforeAll(async () => {
  await upstream.start();
  upstream.reply = echo;
  gateway = await startGateway(
    `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 1 }
`,
    'configured',
  );
  agency = new Agency(gateway);
  await agency.agents('a', 'b');
  connection = await Connection.connect({ address: inject('temporal') });
  client = new Client({ connection });
});
afterAll(async () => {
  await gateway.stop();
  await connection.close();
  await upstream.stop();
});

/** What an operator does in the Temporal UI: back to the run's first workflow task. */
async function reset(id: string): Promise<void> {
  const handle = client.workflow.getHandle(id);
  const { runId } = await handle.describe();
  const first = (await handle.fetchHistory()).events?.find(({ workflowTaskCompletedEventAttributes: task }) => task);
  await client.workflowService.resetWorkflowExecution({
    namespace: 'default',
    workflowExecution: { workflowId: id, runId },
    reason: 'an operator wanted it',
    workflowTaskFinishEventId: first?.eventId ?? null,
    requestId: crypto.randomUUID(),
  });
}

const step = (agent: string) => ({ pattern: 'single', agent });

it('a workflow that is reset takes the answers it has paid for, and goes on', async () => {
  const { id } = await agency.start({
    pattern: 'sequential',
    steps: [step('a'), { pattern: 'human_in_loop', name: 'ask', title: 'ok?' }, step('b')],
  });
  const { id: approval_id } = await agency.pending(id);
  const before = (await client.workflow.getHandle(id).describe()).runId;
  await reset(id);
  expect((await client.workflow.getHandle(id).describe()).runId).not.toBe(before);
  // Until it has come to the question again nobody can answer that.
  await eventually(async () => {
    const { status } = await agency.post('/approvals', { approval_id, decision: 'approve' });
    return status === 'approved';
  });
  expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'b(a(the input))' });
  expect(upstream.received.map(askedAs)).toEqual(['a', 'b']);
  const { data } = await gateway.json(`/workflows/${id}/history`);
  const calls = data.filter(({ type }: { type: string }) => type === 'model_call');
  expect(calls.flatMap(({ details }: { details: { attempts: object[] } }) => details.attempts)).toHaveLength(2);
});

it('a workflow that has ended does nothing more when it is reset', async () => {
  const ended = await agency.run({ pattern: 'sequential', steps: [step('a'), step('b')] });
  upstream.reset();
  await reset(ended.id);
  await client.workflow
    .getHandle(ended.id)
    .result()
    .catch(() => {});
  expect(await agency.get(ended.id)).toEqual(ended);
  expect(upstream.received).toEqual([]);
});
