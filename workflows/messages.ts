import { defineSignal, defineUpdate } from '@temporalio/workflow';
import type { ApprovalState, Vote } from '../domain/approval.ts';
import type { BatchedCall } from '../domain/batched-call.ts';
import type { AgentMessageRef, RunLimits } from '../domain/pipeline-run.ts';

/** Nothing further begins until the run is resumed; a call under way is finished. */
export const pauseRun = defineUpdate<void>('pause');

/** What limits of the run are from now on; those it does not name stay. Only pipelines have more than the first. */
export type Resumption = RunLimits;

/** A call to be made together with others of its kind. */
export const gatherCall = defineSignal<[BatchedCall & { readonly runId: string }]>('gather');

/** What was gathered has ended. */
export const callDone = defineSignal('call-done');

/** Goes on with a run that was paused or that its budgets stopped. */
export const resumeRun = defineUpdate<void, [Resumption]>('resume');

/** Somebody decides about an approval. Refused as `caller_conflict` or `caller_forbidden` where it does not count. */
export const decide = defineUpdate<ApprovalState, [Vote]>('decide');

/** A message for an agent of the run. */
export const agentMessage = defineSignal<[AgentMessageRef]>('message');
