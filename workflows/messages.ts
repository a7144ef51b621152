import { defineSignal, defineUpdate } from '@temporalio/workflow';
import type { BatchedCall } from '../domain/batched-call.ts';
import type { NanoDollars } from '../domain/money.ts';

/** Nothing further begins until the run is resumed; a call under way is finished. */
export const pauseRun = defineUpdate<void>('pause');

export interface Resumption {
  /** The most all calls of the run may cost from now on. */
  readonly maxCostNanos?: NanoDollars;
}

/** A call to be made together with others of its kind. */
export const gatherCall = defineSignal<[BatchedCall & { readonly runId: string }]>('gather');

/** What was gathered has ended. */
export const callDone = defineSignal('call-done');

/** Goes on with a run that was paused or that its budgets stopped. */
export const resumeRun = defineUpdate<void, [Resumption]>('resume');
