import type { LimitStatus, RateLimit } from '../../domain/rate-limit.ts';
import {
  type Admission,
  type AdmissionOptions,
  type Counters,
  NO_CLOCK_RETRY_MS,
  slotStatus,
  WAITER_TTL_MS,
  WINDOW_MS,
  type WindowCounts,
  waitFor,
  windowStatus,
} from './counters.ts';

interface Window {
  readonly counts: Map<string, number>;
  /** Requests that need nothing more: admitted, or released. */
  readonly done: Map<string, 'admitted' | 'released'>;
}

const emptyWindow = (): Window => ({ counts: new Map(), done: new Map() });

/** Limits of a gateway that is one process. */
export class MemoryCounters implements Counters {
  private start = 0;
  private current = emptyWindow();
  private previous = emptyWindow();
  /** Holders of slots by limit, with the end of their leases. */
  private readonly slots = new Leases();
  /** Interactive requests that wait, by limit. */
  private readonly queues = new Leases();
  private readonly now: () => number;

  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  async admit(requestId: string, limits: readonly RateLimit[], options: AdmissionOptions): Promise<Admission> {
    const elapsed = this.turn();
    if (this.isDone(requestId)) return { admitted: true };
    const now = this.now();
    const waits = limits.map((limit) => {
      const wait = this.waitOf(requestId, limit, elapsed);
      const yields = options.priority === 'batch' && this.queues.count(limit.name, now) > 0;
      return wait === 0 && yields ? NO_CLOCK_RETRY_MS : wait;
    });
    const longest = Math.max(0, ...waits);
    if (longest > 0) {
      if (options.waits && options.priority === 'interactive' && Number.isFinite(longest)) {
        limits.forEach(({ name }, i) => {
          if ((waits[i] ?? 0) > 0) this.queues.put(name, requestId, now + WAITER_TTL_MS);
        });
      }
      return { admitted: false, limit: limits[waits.indexOf(longest)] as RateLimit, retryAfterMs: longest };
    }
    for (const { kind, name, cost } of limits) {
      this.queues.remove(name, requestId);
      if (kind === 'concurrent') this.slots.put(name, requestId, now + options.leaseMs);
      else this.add(name, cost);
    }
    this.current.done.set(requestId, 'admitted');
    return { admitted: true };
  }

  async release(requestId: string, limits: readonly RateLimit[], tokenDifference: number): Promise<void> {
    this.turn();
    const corrected = [this.current, this.previous].some(({ done }) => done.get(requestId) === 'released');
    for (const { kind, name } of limits) {
      this.queues.remove(name, requestId);
      if (kind === 'concurrent') this.slots.remove(name, requestId);
      else if (kind === 'tokens' && !corrected) this.add(name, tokenDifference);
    }
    this.current.done.set(requestId, 'released');
  }

  async standBy(requestId: string, limits: readonly RateLimit[]): Promise<void> {
    this.turn();
    for (const { kind, name } of limits) if (kind === 'concurrent') this.slots.remove(name, requestId);
    for (const { done } of [this.current, this.previous]) done.delete(requestId);
  }

  async status(limits: readonly RateLimit[]): Promise<readonly LimitStatus[]> {
    const elapsed = this.turn();
    return limits.map((limit) =>
      limit.kind === 'concurrent'
        ? slotStatus(limit, this.slots.count(limit.name, this.now()))
        : windowStatus(limit, this.countsOf(limit.name), elapsed),
    );
  }

  private waitOf(requestId: string, { kind, name, limit, cost }: RateLimit, elapsedMs: number): number {
    if (kind !== 'concurrent') return waitFor(limit, cost, this.countsOf(name), elapsedMs);
    if (cost > limit) return Number.POSITIVE_INFINITY;
    const held = this.slots.count(name, this.now());
    return this.slots.has(name, requestId) || held + cost <= limit ? 0 : NO_CLOCK_RETRY_MS;
  }

  private isDone(requestId: string): boolean {
    return this.current.done.has(requestId) || this.previous.done.has(requestId);
  }

  private countsOf(name: string): WindowCounts {
    return { current: this.current.counts.get(name) ?? 0, previous: this.previous.counts.get(name) ?? 0 };
  }

  private add(name: string, difference: number): void {
    this.current.counts.set(name, Math.max(0, (this.current.counts.get(name) ?? 0) + difference));
  }

  /** Moves on to the running window. Returns how far it has run, in milliseconds. */
  private turn(): number {
    const now = this.now();
    const start = now - (now % WINDOW_MS);
    if (start !== this.start) {
      this.previous = start === this.start + WINDOW_MS ? this.current : emptyWindow();
      this.current = emptyWindow();
      this.start = start;
    }
    return now - start;
  }
}

/** Who holds what until when. */
class Leases {
  private readonly byName = new Map<string, Map<string, number>>();

  put(name: string, holder: string, until: number): void {
    const holders = this.byName.get(name) ?? new Map<string, number>();
    this.byName.set(name, holders.set(holder, until));
  }

  remove(name: string, holder: string): void {
    const holders = this.byName.get(name);
    holders?.delete(holder);
    if (holders?.size === 0) this.byName.delete(name);
  }

  has(name: string, holder: string): boolean {
    return this.byName.get(name)?.has(holder) ?? false;
  }

  /** Holders whose lease has not ended. */
  count(name: string, now: number): number {
    const holders = this.byName.get(name);
    for (const [holder, until] of holders ?? []) if (until <= now) this.remove(name, holder);
    return holders?.size ?? 0;
  }
}
