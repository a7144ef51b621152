import { condition, setHandler } from '@temporalio/workflow';
import type { LineEnd } from '../domain/batch.ts';
import { type ErrorInfo, HoldfastError, MAX_COST_PARAM } from '../domain/errors.ts';
import type { ModelCall } from '../domain/model-call.ts';
import type { NanoDollars } from '../domain/money.ts';
import type { RunState } from '../domain/run-state.ts';
import { batchActivities } from './batch-activities.ts';
import { pauseRun, resumeRun } from './messages.ts';
import type { CallControls } from './model-call.ts';
import { announceWebhooks } from './webhook.ts';

/** What the next run of a batch's workflow has to know. */
export interface CarriedControls {
  readonly paused: boolean;
  readonly exceeded?: ErrorInfo;
  readonly maxCostNanos?: NanoDollars;
  readonly spentNanos: NanoDollars;
  /** The state that was recorded last. */
  readonly state: RunState;
  readonly byProviders: boolean;
}

export interface LineControls extends CallControls {
  /** The line has ended. */
  leave(): void;
}

/** What is done to a batch while it goes on, for all its lines together. */
export class BatchControls {
  /** Why no further line begins, for good. */
  stopped: 'cancelled' | 'expired' | undefined;
  /** Whether the providers' own batch APIs have done what they can. */
  byProviders = false;
  /** Lines that are under way and not let in yet. */
  unadmitted = 0;
  private paused: boolean;
  /** The budget that stopped the batch. */
  private exceeded: ErrorInfo | undefined;
  private maxCostNanos: NanoDollars | undefined;
  /** Of lines that have ended. */
  private spentNanos: NanoDollars;
  /** The most that lines may cost which have not: by their numbers. */
  private readonly committed = new Map<number, NanoDollars>();
  /** Lines that have to be allowed to cost more before they go on. */
  private short = 0;
  private underWay = 0;
  private recorded: RunState;
  private over = false;
  private readonly records = batchActivities().records;
  private readonly batchId: string;

  constructor({
    batchId,
    maxCostNanos,
    carried,
  }: {
    readonly batchId: string;
    readonly maxCostNanos?: NanoDollars;
    readonly carried?: CarriedControls;
  }) {
    this.batchId = batchId;
    this.paused = carried?.paused ?? false;
    this.exceeded = carried?.exceeded;
    this.maxCostNanos = carried?.maxCostNanos ?? maxCostNanos;
    this.spentNanos = carried?.spentNanos ?? 0;
    this.recorded = carried?.state ?? 'queued';
    setHandler(pauseRun, () => {
      this.paused = true;
    });
    setHandler(resumeRun, (resumption) => {
      this.paused = false;
      this.exceeded = undefined;
      this.maxCostNanos = resumption.maxCostNanos ?? this.maxCostNanos;
    });
  }

  carry(): CarriedControls {
    const { paused, exceeded, maxCostNanos, spentNanos, recorded: state } = this;
    return {
      paused,
      ...(exceeded && { exceeded }),
      ...(maxCostNanos !== undefined && { maxCostNanos }),
      spentNanos,
      state,
      byProviders: this.byProviders,
    };
  }

  /** Nothing begins at the moment. */
  get held(): boolean {
    return this.paused || this.exceeded !== undefined || this.stopped !== undefined;
  }

  /** No further line begins. */
  stop(reason: 'cancelled' | 'expired'): void {
    this.stopped ??= reason;
  }

  /** Whether a further call fits into what the batch may cost, if all that is under way costs the most it can. */
  affords({ admission }: ModelCall): boolean {
    return this.covers(admission.maxCostNanos);
  }

  refuseOverCap(): void {
    const message = 'What is left of the run’s max_cost_usd does not cover a further call.';
    this.exceeded = { code: 'policy_budget_exceeded', message, param: MAX_COST_PARAM };
  }

  ofLine(n: number, { admission }: ModelCall): LineControls {
    const batch = this;
    let admitted = false;
    const admit = () => {
      if (!admitted) this.unadmitted -= 1;
      admitted = true;
    };
    this.committed.set(n, admission.maxCostNanos);
    this.unadmitted += 1;
    this.underWay += 1;
    return {
      get maxCostNanos() {
        return batch.maxCostNanos === undefined ? undefined : batch.committed.get(n);
      },
      gate: () => this.gate(),
      budgetExceeded: (error) =>
        error.param === MAX_COST_PARAM ? this.commitMore(n, admission.maxCostNanos) : this.wait(error),
      admitted: admit,
      quota: this.records,
      leave: () => {
        admit();
        this.underWay -= 1;
      },
    };
  }

  /** What ended lines cost takes the place of what they might have cost. */
  paid(ends: readonly LineEnd[], spentNanos: NanoDollars): void {
    for (const { n } of ends) this.committed.delete(n);
    this.spentNanos = Math.max(this.spentNanos, spentNanos);
  }

  end(): void {
    this.over = true;
  }

  /** Records the state of the run until its end: once for all lines that wait for the same. */
  async keepState(): Promise<void> {
    while (!this.over) {
      const state = this.wanted;
      if (state !== this.recorded) {
        const error = state === 'budget_exceeded' ? this.exceeded : undefined;
        const transition = { state, ...(error && { error }) };
        await announceWebhooks(await this.records.recordState(this.batchId, transition));
      }
      this.recorded = state;
      await condition(() => this.over || this.wanted !== this.recorded);
    }
  }

  private get wanted(): RunState {
    if (this.paused) return 'paused';
    return this.exceeded ? 'budget_exceeded' : 'running';
  }

  private covers(nanos: NanoDollars): boolean {
    if (this.maxCostNanos === undefined) return true;
    let total = this.spentNanos + nanos;
    for (const committed of this.committed.values()) total += committed;
    return total <= this.maxCostNanos;
  }

  private async gate(): Promise<void> {
    if (this.held) await condition(() => !this.held || this.stopped !== undefined);
    if (this.stopped === 'cancelled') throw new HoldfastError('gateway_cancelled', 'The batch was cancelled.');
    if (this.stopped === 'expired') {
      throw new HoldfastError('gateway_deadline_exceeded', 'The batch did not finish before its deadline.');
    }
  }

  private async wait(error: ErrorInfo): Promise<void> {
    this.exceeded ??= error;
    await this.gate();
  }

  /** A call that was lost may have been billed, so that the line needs more than was set aside for it. */
  private async commitMore(n: number, nanos: NanoDollars): Promise<void> {
    while (!this.covers(nanos)) {
      this.short += 1;
      const settled = () => this.short === this.underWay && this.committed.size === this.underWay;
      await condition(() => this.covers(nanos) || settled() || this.stopped !== undefined);
      this.short -= 1;
      if (!this.covers(nanos)) this.refuseOverCap();
      await this.gate();
    }
    this.committed.set(n, (this.committed.get(n) ?? 0) + nanos);
  }
}
