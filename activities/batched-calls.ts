import { Context } from '@temporalio/activity';
import type { BatchedCalls } from '../calls/batched-calls.ts';
import type { BatchedCall, SubmittedBatch } from '../domain/batched-call.ts';
import type { BatchStatus } from '../providers/batches.ts';

export interface BatchedCallDeps {
  readonly batchedCalls: BatchedCalls;
  /** Hands a call to the workflow that gathers calls of its kind, and starts that if there is none. */
  readonly gather: (call: BatchedCall & { readonly runId: string }) => Promise<void>;
}

/** Model calls that go to their provider together. */
export function createBatchedCallActivities({ batchedCalls, gather }: BatchedCallDeps) {
  const signal = () => Context.current().cancellationSignal;
  return {
    gatherCall: (call: BatchedCall & { readonly runId: string }): Promise<void> => gather(call),

    submitBatch: (key: string, calls: readonly BatchedCall[]): Promise<SubmittedBatch | undefined> =>
      batchedCalls.submit(key, calls, signal()),

    abandonBatch: (key: string, calls: readonly BatchedCall[]): Promise<void> => batchedCalls.abandon(key, calls),

    batchStatus: (batch: SubmittedBatch): Promise<BatchStatus> => batchedCalls.status(batch, signal()),

    collectBatch: (batch: SubmittedBatch, calls: readonly BatchedCall[], state: BatchStatus['state']): Promise<void> =>
      batchedCalls.collect(batch, calls, state, signal()),
  };
}
