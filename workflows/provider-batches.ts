import { condition, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import type { BatchControls } from './batch-controls.ts';
import { announceBudgetAlerts } from './budget-alert.ts';

const { submitProviderBatch, followProviderBatches } = proxyActivities<
  Pick<Activities, 'submitProviderBatch' | 'followProviderBatches'>
>({
  startToCloseTimeout: '2 hours',
  heartbeatTimeout: '30 seconds',
  retry: { initialInterval: '2 seconds', maximumInterval: '5 minutes' },
  summary: 'the providers’ own batches',
});

/** Milliseconds between two looks: soon at first, for a small batch may be done in a minute. */
const FIRST_LOOK_MS = 1_000;
const MAX_LOOK_MS = 5 * 60_000;
/** Milliseconds that providers get to end what was cancelled; OpenAI says ten minutes. */
const CANCEL_PATIENCE_MS = 15 * 60_000;

/**
 * Has lines answered by the providers' own batch APIs, at their price for it. What they leave is for ordinary calls.
 * Returns false if the history has become long enough before that.
 */
export async function answerByProviders(batchId: string, controls: BatchControls): Promise<boolean> {
  for (;;) {
    await condition(() => !controls.held || controls.stopped !== undefined);
    if (controls.stopped || !(await submitProviderBatch(batchId))) break;
  }
  let stoppedAt: number | undefined;
  for (let waitMs = FIRST_LOOK_MS; ; waitMs = Math.min(waitMs * 2, MAX_LOOK_MS)) {
    if (controls.stopped && stoppedAt === undefined) {
      stoppedAt = Date.now();
      waitMs = FIRST_LOOK_MS;
    }
    const { running, alerts } = await followProviderBatches(batchId, stoppedAt !== undefined);
    await announceBudgetAlerts(alerts);
    if (running === 0) return true;
    if (stoppedAt !== undefined && Date.now() - stoppedAt > CANCEL_PATIENCE_MS) return true;
    if (workflowInfo().continueAsNewSuggested && !controls.stopped) return false;
    await condition(() => controls.stopped !== undefined && stoppedAt === undefined, waitMs);
  }
}
