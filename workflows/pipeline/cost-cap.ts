import { condition } from '@temporalio/workflow';
import { type ErrorInfo, MAX_COST_PARAM } from '../../domain/errors.ts';
import type { ModelCall } from '../../domain/model-call.ts';
import type { NanoDollars } from '../../domain/money.ts';

export interface CostCapOptions {
  /** What the run may cost; undefined for no limit. */
  readonly maxNanos: NanoDollars | undefined;
  readonly spentNanos: NanoDollars;
  /** Whether calls go on side by side. */
  readonly sharing: boolean;
  /** Resolves when the run was resumed. */
  exceeded(error: ErrorInfo): Promise<void>;
}

/**
 * The least a call is planned for, as a part of the whole: an agent that may say next to nothing is worse than a run that
 * stops.
 */
const LEAST_PART = 1 / 10;

/** What a run's `max_cost_usd` leaves for calls that go on side by side, at most one for each step. */
export class CostCap {
  maxNanos: NanoDollars | undefined;
  spentNanos: NanoDollars;
  /** What steps have set aside, and what their calls cost until that is among what was spent: by their names. */
  private readonly committed = new Map<string, NanoDollars>();
  /** Calls that will end without anybody raising anything. */
  private moving = 0;
  private readonly options: CostCapOptions;

  constructor(options: CostCapOptions) {
    this.options = options;
    this.maxNanos = options.maxNanos;
    this.spentNanos = options.spentNanos;
  }

  /** The most that the next call of a step is to be planned for. It is set aside until the call is known. */
  plan(step: string): NanoDollars | undefined {
    if (this.maxNanos === undefined) return undefined;
    const available = this.maxNanos - this.spentNanos - this.others(step);
    const share = this.options.sharing ? available / 2 : available;
    const planned = Math.floor(Math.max(share, this.maxNanos * LEAST_PART));
    this.committed.set(step, planned);
    return planned;
  }

  /** The most all attempts of the step's call may cost. */
  of(step: string): NanoDollars | undefined {
    return this.maxNanos === undefined ? undefined : this.committed.get(step);
  }

  /** Makes the call once what is left covers it, if all that is under way costs the most it can. */
  async within<T>(step: string, { admission }: ModelCall, make: () => Promise<T>): Promise<T> {
    await this.commit(step, admission.maxCostNanos);
    this.moving += 1;
    try {
      return await make();
    } finally {
      this.moving -= 1;
    }
  }

  /** A call that was lost may have been billed, so that its step needs more than was set aside for it. */
  async commitMore(step: string, { admission }: ModelCall): Promise<void> {
    this.moving -= 1;
    try {
      await this.commit(step, (this.committed.get(step) ?? 0) + admission.maxCostNanos);
    } finally {
      this.moving += 1;
    }
  }

  /** What the step's call cost. */
  settled(step: string, nanos: NanoDollars): void {
    this.committed.set(step, nanos);
  }

  /** What the run has cost by now, with the calls of a step that is not calling at the moment. */
  spent(nanos: NanoDollars, step: string): void {
    this.spentNanos = Math.max(this.spentNanos, nanos);
    this.committed.delete(step);
  }

  private async commit(step: string, nanos: NanoDollars): Promise<void> {
    const covered = () => this.maxNanos === undefined || this.spentNanos + this.others(step) + nanos <= this.maxNanos;
    while (!covered()) {
      await condition(() => covered() || this.moving === 0);
      if (!covered()) await this.options.exceeded(OVER_CAP);
    }
    this.committed.set(step, nanos);
  }

  private others(step: string): NanoDollars {
    let total = 0;
    for (const [other, nanos] of this.committed) if (other !== step) total += nanos;
    return total;
  }
}

const OVER_CAP: ErrorInfo = {
  code: 'policy_budget_exceeded',
  message: 'What is left of the run’s max_cost_usd does not cover a further call.',
  param: MAX_COST_PARAM,
};
