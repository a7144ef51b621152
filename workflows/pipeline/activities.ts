import { ActivityCancellationType, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities } from '../../activities/index.ts';
import { interactiveQueue } from '../../domain/task-queues.ts';
import type { Quota } from '../model-call.ts';

type Records = Quota &
  Pick<
    Activities,
    | 'beginStep'
    | 'finishStep'
    | 'finishedSteps'
    | 'joinOutputs'
    | 'prepareTurn'
    | 'recordApproval'
    | 'recordState'
    | 'remindOfApproval'
    | 'requestApproval'
  >;

/**
 * What is written down around the work of a pipeline. Not local activities: a replay hands the ends of those out in other
 * groups than they came in, and what goes on side by side then takes another course.
 * @param summary For the Temporal UI.
 */
export const records = (summary: string): Records =>
  proxyActivities<Records>({
    // On the background queue they would wait for slots that calls hold.
    taskQueue: interactiveQueue(workflowInfo().taskQueue),
    // Milliseconds each; what a dead worker took with it is done again after this.
    startToCloseTimeout: '20 seconds',
    retry: { initialInterval: '100 milliseconds', maximumInterval: '5 seconds' },
    summary,
  });

interface OutwardCall {
  readonly summary: string;
  /** Milliseconds one request may take. */
  readonly timeoutMs: number;
  /** Requests, the first included. */
  readonly maxAttempts: number;
}

/** What an activity may take beyond the time limit of its request, which it enforces itself. */
const GRACE_MS = 5_000;
/** A worker that says nothing for this long is dead. */
const HEARTBEAT_TIMEOUT_MS = 5_000;
/** Workers may die during a call without that being the other side's failure. */
const MAX_LOST_CALLS = 5;

/** Calls of tools and remote agents. */
export const outward = ({ summary, timeoutMs, maxAttempts }: OutwardCall) =>
  proxyActivities<Pick<Activities, 'callTool' | 'callRemoteAgent'>>({
    startToCloseTimeout: timeoutMs + GRACE_MS,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    retry: {
      initialInterval: '1 second',
      maximumInterval: '1 minute',
      maximumAttempts: maxAttempts + MAX_LOST_CALLS,
    },
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    summary,
  });
