import { Client, Connection } from '@temporalio/client';
import proto from '@temporalio/proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { HoldfastProcess } from '../support/process.ts';

describe('holdfast replay', () => {
  let gateway: TestGateway;
  let connection: Connection;
  let client: Client;
  let run: string;
  beforeAll(async () => {
    connection = await Connection.connect({ address: inject('temporal') });
    client = new Client({ connection });
    gateway = await startGateway('providers: { demo: { type: demo } }\n');
    const json = { model: 'demo', messages: [{ role: 'user', content: 'hi' }] };
    const response = await gateway.fetch('/v1/chat/completions', { json });
    run = response.headers.get('x-holdfast-run-id') ?? '';
    await client.workflow.getHandle(run).result();
  });
  afterAll(async () => {
    await gateway.stop();
    await connection.close();
  });

  const eventsOf = async (id: string) => (await client.workflow.getHandle(id).fetchHistory()).events ?? [];
  const replay = async (id: string) => {
    const command = new HoldfastProcess(['replay', id], { TEMPORAL_ADDRESS: inject('temporal') });
    return { code: await command.ended, stdout: command.stdout, stderr: command.stderr };
  };

  it('says that this code does what the history says', async () => {
    const { length } = await eventsOf(run);
    const stdout = `${run} replays: ${length} events, completed\n`;
    expect(await replay(run)).toEqual({ code: 0, stdout, stderr: '' });
  });

  it('says where this code would do something else', async () => {
    const other = await completeWithoutCall();
    const { code, stdout, stderr } = await replay(other);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^${other} does not replay: .*nondeterminism.*\\n$`, 'i'));
  });

  it('knows when there is no such run', async () => {
    const stderr = `Temporal at ${inject('temporal')} knows no run 'nobody' in namespace 'default'.\n`;
    expect(await replay('nobody')).toEqual({ code: 1, stdout: '', stderr });
  });

  /** The same completion by other code, which calls nobody. Returns its id. */
  const completeWithoutCall = async () => {
    const { workflowService } = connection;
    const [started] = await eventsOf(run);
    const { workflowType, input } = started?.workflowExecutionStartedEventAttributes ?? {};
    const workflowId = crypto.randomUUID();
    const place = { namespace: 'default', taskQueue: { name: workflowId } };
    const start = { ...place, workflowId, requestId: workflowId, workflowType: workflowType ?? {}, input: input ?? {} };
    await workflowService.startWorkflowExecution(start);
    const poll = () => workflowService.pollWorkflowTaskQueue(place);
    const { taskToken } = await connection.withDeadline(Date.now() + 20_000, poll);
    const commandType = proto.temporal.api.enums.v1.CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION;
    const commands = [{ commandType, completeWorkflowExecutionCommandAttributes: {} }];
    await workflowService.respondWorkflowTaskCompleted({ namespace: 'default', taskToken, commands });
    return workflowId;
  };
});
