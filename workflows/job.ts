import { CancellationScope } from '@temporalio/workflow';
import type { ModelCallResult } from '../domain/model-call.ts';
import { type CompletionInput, noteFallback } from './completion.ts';
import { errorInfoOf } from './failures.ts';
import { modelCall } from './model-call.ts';
import { RunControls, recordState } from './run-controls.ts';

/** One model call in the background: it may be paused, waits for budgets to be raised, and tells its webhook. */
export async function job(input: CompletionInput): Promise<ModelCallResult> {
  const { call } = input;
  const { requestId: runId, deadlineAt, maxCostNanos } = call;
  const controls = new RunControls(runId, deadlineAt, maxCostNanos);
  try {
    const result = await modelCall(call, controls);
    noteFallback(input, result);
    // It is paid and settled: who cancels now comes too late.
    await CancellationScope.nonCancellable(() => recordState(runId, 'completed'));
    return result;
  } catch (error) {
    const info = errorInfoOf(error);
    const state = info.code === 'gateway_cancelled' ? 'cancelled' : 'failed';
    await CancellationScope.nonCancellable(() => recordState(runId, state, info));
    throw error;
  }
}
