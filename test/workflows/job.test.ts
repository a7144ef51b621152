import { Client, Connection } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_USAGE } from '../../domain/money.ts';
import { workflowBundle } from '../../workers/worker.ts';
import type { CompletionInput } from '../../workflows/completion.ts';
import type { job } from '../../workflows/job.ts';
import { eventually, silenceRuntime } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';

const CANCEL_REQUESTED = 20;
const TASK_STARTED = 6;

describe('a job', () => {
  const taskQueue = `test-${crypto.randomUUID()}`;
  let connection: NativeConnection;
  let client: Client;
  beforeAll(async () => {
    silenceRuntime();
    connection = await NativeConnection.connect({ address: inject('temporal') });
    client = new Client({ connection: await Connection.connect({ address: inject('temporal') }) });
  });
  afterAll(async () => {
    await client.connection.close();
    await connection.close();
  });

  const input: CompletionInput = {
    searchable: false,
    call: {
      requestId: 'r',
      bodyRef: 'b',
      stream: false,
      resumable: true,
      targets: [
        {
          provider: 'p',
          model: 'm',
          maxAttempts: 1,
          timeoutMs: 1_000,
          maxOutputTokens: 1,
          price: null,
          maxCostNanos: 0,
        },
      ],
      retryDelayMs: 1,
      deadlineAt: Date.now() + 600_000,
      admission: { limits: [], estimatedTokens: 1, maxCostNanos: 0, priceVersion: '' },
      background: true,
    },
  };

  it('that is cancelled after it was paid is completed all the same', async () => {
    const states: string[] = [];
    const workflowId = `job-${crypto.randomUUID()}`;
    const result = { provider: 'p', model: 'm', finishReasons: ['stop'], usage: NO_USAGE, responseRef: 'ref' };
    /** Cancels the run and waits until it has heard of it. */
    const cancelled = async (): Promise<void> => {
      const handle = client.workflow.getHandle(workflowId);
      await handle.cancel();
      await eventually(async () => {
        const events = (await handle.fetchHistory()).events ?? [];
        const asked = events.findIndex(({ eventType }) => eventType === CANCEL_REQUESTED);
        return asked >= 0 && events.slice(asked).some(({ eventType }) => eventType === TASK_STARTED);
      });
    };
    const activities = {
      reserve: async () => undefined,
      callProvider: async () => result,
      settle: async () => {
        await cancelled();
        return [];
      },
      recordState: async (_id: string, { state }: { state: string }) => {
        states.push(state);
        return [];
      },
    };
    const worker = await Worker.create({ connection, taskQueue, workflowBundle: workflowBundle(), activities });
    const ended = await worker.runUntil(
      client.workflow.execute<typeof job>('job', {
        workflowId,
        taskQueue,
        args: [input],
        workflowTaskTimeout: '2 seconds',
      }),
    );
    expect(states).toEqual(['completed']);
    expect(ended).toEqual(result);
  });
});
