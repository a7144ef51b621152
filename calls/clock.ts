import { HoldfastError } from '../domain/errors.ts';
import { ProviderError } from '../providers/errors.ts';

/**
 * The time limits of one call: the caller's signal, the request's deadline, and the provider's patience, which a stream
 * renews with every event.
 */
export class CallClock {
  readonly signal: AbortSignal;
  private readonly controller = new AbortController();
  private readonly outer: AbortSignal;
  private readonly timeoutMs: number;
  private readonly deadlineAt: number;
  private readonly provider: string;
  private timer: NodeJS.Timeout | undefined;
  private expired: 'timeout' | 'deadline' | null = null;

  constructor(outer: AbortSignal, provider: string, timeoutMs: number, deadlineAt: number) {
    this.outer = outer;
    this.provider = provider;
    this.timeoutMs = timeoutMs;
    this.deadlineAt = deadlineAt;
    this.signal = AbortSignal.any([outer, this.controller.signal]);
    this.renew();
  }

  /** The provider showed a sign of life. */
  renew(): void {
    clearTimeout(this.timer);
    const remaining = this.deadlineAt - Date.now();
    const kind = remaining < this.timeoutMs ? 'deadline' : 'timeout';
    this.timer = setTimeout(
      () => {
        this.expired = kind;
        this.controller.abort();
      },
      Math.max(0, Math.min(remaining, this.timeoutMs)),
    );
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  get cancelled(): boolean {
    return this.outer.aborted;
  }

  /** Why the call was aborted, or undefined if no time limit did it. */
  get expiry(): HoldfastError | undefined {
    if (this.expired === 'deadline') {
      return new HoldfastError('gateway_deadline_exceeded', 'The request did not finish before its deadline.');
    }
    if (this.expired === 'timeout') {
      const seconds = this.timeoutMs / 1000;
      return new ProviderError('provider_timeout', `${this.provider}: no answer within ${seconds} s`, {
        maybeBilled: true,
      });
    }
    return undefined;
  }
}
