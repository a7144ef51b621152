import { condition, proxyActivities, proxyLocalActivities, setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import type { BatchedCall } from '../domain/batched-call.ts';
import { type ErrorInfo, HoldfastError } from '../domain/errors.ts';
import type { NanoDollars } from '../domain/money.ts';
import type { RunState } from '../domain/run-state.ts';
import { callDone, pauseRun, resumeRun } from './messages.ts';
import { announceWebhooks } from './webhook.ts';

const { gatherCall } = proxyActivities<Pick<Activities, 'gatherCall'>>({
  startToCloseTimeout: '20 seconds',
  retry: { initialInterval: '1 second', maximumInterval: '1 minute' },
  summary: 'gathered with others',
});

const records = proxyLocalActivities<Pick<Activities, 'recordState'>>({
  startToCloseTimeout: '20 seconds',
  localRetryThreshold: '500 milliseconds',
  retry: { initialInterval: '100 milliseconds', maximumInterval: '5 seconds' },
  summary: 'state of the run',
});

/** Brings a run into a state, for all to see, and tells its webhook. */
export async function recordState(runId: string, state: RunState, error?: ErrorInfo): Promise<void> {
  await announceWebhooks(await records.recordState(runId, { state, ...(error && { error }) }));
}

/** What operators and callers do to a run in the background while it goes on. */
export class RunControls {
  maxCostNanos: NanoDollars | undefined;
  private paused = false;
  private resumptions = 0;
  private done = false;
  private readonly runId: string;
  private readonly deadlineAt: number;

  constructor(runId: string, deadlineAt: number, maxCostNanos: NanoDollars | undefined) {
    this.runId = runId;
    this.deadlineAt = deadlineAt;
    this.maxCostNanos = maxCostNanos;
    setHandler(callDone, () => {
      this.done = true;
    });
    setHandler(pauseRun, () => {
      this.paused = true;
    });
    setHandler(resumeRun, (resumption) => {
      this.paused = false;
      this.resumptions += 1;
      this.maxCostNanos = resumption.maxCostNanos ?? this.maxCostNanos;
    });
  }

  /** Before each step. */
  async gate(): Promise<void> {
    if (!this.paused) return;
    setCurrentDetails('Paused. It goes on when it is resumed.');
    await recordState(this.runId, 'paused');
    await this.until(() => !this.paused);
    await recordState(this.runId, 'queued');
  }

  /** A budget does not cover the next call: somebody has to raise it. */
  async budgetExceeded(error: ErrorInfo): Promise<void> {
    const before = this.resumptions;
    setCurrentDetails(`${error.message} It goes on when that was raised and it is resumed.`);
    await recordState(this.runId, 'budget_exceeded', error);
    await this.until(() => this.resumptions > before && !this.paused);
    await recordState(this.runId, 'queued');
  }

  /** Lets the call be made together with others, and waits until that is over. The journal knows how it went. */
  async gathered(call: BatchedCall): Promise<void> {
    if (this.done) return;
    await gatherCall({ ...call, runId: this.runId });
    await this.until(() => this.done);
  }

  private async until(wanted: () => boolean): Promise<void> {
    const resumed = await condition(wanted, Math.max(1, this.deadlineAt - Date.now()));
    setCurrentDetails('');
    if (resumed) return;
    throw new HoldfastError('gateway_deadline_exceeded', 'The run was not resumed before its deadline.');
  }
}
