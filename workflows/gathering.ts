import {
  condition,
  getExternalWorkflowHandle,
  log,
  ParentClosePolicy,
  proxyActivities,
  setHandler,
  sleep,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import type { BatchedCall } from '../domain/batched-call.ts';
import { callDone, gatherCall } from './messages.ts';

/** Calls go to the provider when so many are there, or so long after the first (seed 000). */
const MOST_CALLS = 10;
const MOST_MS = 100;

export type GatheredCall = BatchedCall & { readonly runId: string };

/** Gathers calls of one kind, and lets each lot be made by a workflow of its own. */
export async function gathering(): Promise<void> {
  const waiting: GatheredCall[] = [];
  setHandler(gatherCall, (call) => {
    waiting.push(call);
  });
  await condition(() => waiting.length > 0);
  await condition(() => waiting.length >= MOST_CALLS, MOST_MS);
  const { workflowId, runId } = workflowInfo();
  for (let lot = 0; waiting.length > 0; lot += 1) {
    const calls = waiting.splice(0, MOST_CALLS);
    await startChild(gatheredBatch, {
      args: [`${runId}-${lot}`, calls],
      workflowId: `${workflowId}-${runId}-${lot}`,
      parentClosePolicy: ParentClosePolicy.ABANDON,
      staticSummary: `${calls.length} calls to ${calls[0]?.target.provider}/${calls[0]?.target.model}`,
    });
  }
}

const { submitBatch, abandonBatch } = proxyActivities<Pick<Activities, 'submitBatch' | 'abandonBatch'>>({
  startToCloseTimeout: '10 minutes',
  scheduleToCloseTimeout: '1 hour',
  retry: { initialInterval: '2 seconds', maximumInterval: '1 minute' },
});

/** Providers end batches within a day. */
const { batchStatus, collectBatch } = proxyActivities<Pick<Activities, 'batchStatus' | 'collectBatch'>>({
  startToCloseTimeout: '10 minutes',
  scheduleToCloseTimeout: '25 hours',
  retry: { initialInterval: '2 seconds', maximumInterval: '5 minutes' },
});

const FIRST_POLL_MS = 1_000;
const MAX_POLL_MS = 60_000;

/** Calls made through a provider's batch API. Whoever waits for one is told when it has ended, or has to be made by itself. */
export async function gatheredBatch(key: string, calls: readonly GatheredCall[]): Promise<void> {
  try {
    await makeBatch(key, calls);
  } catch (error) {
    log.warn('A batch was given up', { error: String(error) });
    await abandonBatch(key, calls);
  }
  for (const { runId } of calls) {
    // A run that is over waits for nothing.
    await getExternalWorkflowHandle(runId)
      .signal(callDone)
      .catch(() => {});
  }
}

async function makeBatch(key: string, calls: readonly GatheredCall[]): Promise<void> {
  const batch = await submitBatch(key, calls);
  if (!batch) return;
  let { state } = await batchStatus(batch);
  for (let pollMs = FIRST_POLL_MS; state === 'running'; pollMs = Math.min(pollMs * 1.5, MAX_POLL_MS)) {
    await sleep(pollMs, { summary: 'the provider is at it' });
    ({ state } = await batchStatus(batch));
  }
  await collectBatch(batch, calls, state);
}
