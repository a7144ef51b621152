import { condition } from '@temporalio/workflow';
import { type ErrorInfo, MAX_COST_PARAM } from '../../domain/errors.ts';
import type { ModelCall } from '../../domain/model-call.ts';
import type { NanoDollars } from '../../domain/money.ts';

/** What a run's `max_cost_usd` leaves for calls that go on side by side. */
export class CostCap {
  /** What the run may cost; undefined for no limit. */
  maxNanos: NanoDollars | undefined;
  spentNanos: NanoDollars;
  /** The most that calls may cost whose cost is not known yet: by request id. */
  private readonly committed = new Map<string, NanoDollars>();
  /** Calls that will end without anybody raising anything. */
  private moving = 0;
  private readonly exceeded: (error: ErrorInfo) => Promise<void>;

  /** @param exceeded Resolves when the run was resumed. */
  constructor(
    maxNanos: NanoDollars | undefined,
    spentNanos: NanoDollars,
    exceeded: (error: ErrorInfo) => Promise<void>,
  ) {
    this.maxNanos = maxNanos;
    this.spentNanos = spentNanos;
    this.exceeded = exceeded;
  }

  /** The most all attempts of the request may cost. */
  of(requestId: string): NanoDollars | undefined {
    return this.maxNanos === undefined ? undefined : this.committed.get(requestId);
  }

  /** Makes the call once what is left covers it, if all that is under way costs the most it can. */
  async within<T>({ requestId, admission }: ModelCall, make: () => Promise<T>): Promise<T> {
    await this.commit(requestId, admission.maxCostNanos);
    this.moving += 1;
    try {
      return await make();
    } finally {
      this.moving -= 1;
    }
  }

  /** A call that was lost may have been billed, so that its request needs more than was set aside for it. */
  async commitMore({ requestId, admission }: ModelCall): Promise<void> {
    this.moving -= 1;
    try {
      await this.commit(requestId, (this.committed.get(requestId) ?? 0) + admission.maxCostNanos);
    } finally {
      this.moving += 1;
    }
  }

  /** What the run has cost by now, with the calls that are over. */
  spent(nanos: NanoDollars, ...over: readonly string[]): void {
    this.spentNanos = Math.max(this.spentNanos, nanos);
    for (const requestId of over) this.committed.delete(requestId);
  }

  private async commit(requestId: string, nanos: NanoDollars): Promise<void> {
    const covered = () => this.covers(requestId, nanos);
    while (!covered()) {
      await condition(() => covered() || this.moving === 0);
      if (!covered()) await this.exceeded(OVER_CAP);
    }
    this.committed.set(requestId, nanos);
  }

  private covers(requestId: string, nanos: NanoDollars): boolean {
    if (this.maxNanos === undefined) return true;
    let total = this.spentNanos + nanos;
    for (const [other, committed] of this.committed) if (other !== requestId) total += committed;
    return total <= this.maxNanos;
  }
}

const OVER_CAP: ErrorInfo = {
  code: 'policy_budget_exceeded',
  message: 'What is left of the run’s max_cost_usd does not cover a further call.',
  param: MAX_COST_PARAM,
};
