import type { LimitStatus, Priority, RateLimit } from '../../domain/rate-limit.ts';

export type Admission =
  | { readonly admitted: true }
  /** `limit` is the one that says no for longest; `retryAfterMs` is when it would say yes if nothing else came in. */
  | { readonly admitted: false; readonly limit: RateLimit; readonly retryAfterMs: number };

export interface AdmissionOptions {
  /** Milliseconds after which the slots of concurrent limits are free again even if nobody released them. */
  readonly leaseMs: number;
  readonly priority: Priority;
  /** Whether the request comes again if it is refused, so that batch requests let it go first. */
  readonly waits: boolean;
}

/** Rate limits over a sliding window of one minute, and limits of what runs at the same time. */
export interface Counters {
  /**
   * Takes from all limits or from none. Idempotent by request for the length of a window; a slot of a concurrent limit
   * is the request's for as long as it holds it. A released request is not admitted again: it takes nothing.
   */
  admit(requestId: string, limits: readonly RateLimit[], options: AdmissionOptions): Promise<Admission>;
  /**
   * Frees the request's slots, takes it from the queues, and corrects the tokens it took by `tokenDifference`.
   * Idempotent, also for a request that was never admitted.
   */
  release(requestId: string, limits: readonly RateLimit[], tokenDifference: number): Promise<void>;
  /** Frees the slots of a request that is to wait for something else; it has to be admitted again. */
  standBy(requestId: string, limits: readonly RateLimit[]): Promise<void>;
  status(limits: readonly RateLimit[]): Promise<readonly LimitStatus[]>;
}

export const WINDOW_MS = 60_000;
/** When to ask again for what no clock frees: a slot, or a limit that others are first in line for. */
export const NO_CLOCK_RETRY_MS = 1_000;
/** A waiting request asks again at least this often; one that did not is no longer waited for. */
export const WAITER_TTL_MS = 10_000;

/** Counts of the running and the previous window. */
export interface WindowCounts {
  readonly current: number;
  readonly previous: number;
}

/** The previous window counts in proportion to how much of it the last minute still covers. */
export const weigh = ({ current, previous }: WindowCounts, elapsedMs: number): number =>
  current + previous * (1 - elapsedMs / WINDOW_MS);

/**
 * The sliding-window counter. Returns 0 when `cost` fits now, else the milliseconds until it would, or `Infinity` when
 * it never can.
 */
export function waitFor(limit: number, cost: number, { current, previous }: WindowCounts, elapsedMs: number): number {
  if (cost > limit) return Number.POSITIVE_INFINITY;
  const elapsed = elapsedMs / WINDOW_MS;
  if (current + previous * (1 - elapsed) + cost <= limit) return 0;
  if (current + cost <= limit) return (1 - (limit - current - cost) / previous - elapsed) * WINDOW_MS;
  return (1 - elapsed + (1 - (limit - cost) / current)) * WINDOW_MS;
}

/** Milliseconds until nothing of what was taken counts any more. */
export function untilEmpty({ current, previous }: WindowCounts, elapsedMs: number): number {
  if (current > 0) return 2 * WINDOW_MS - elapsedMs;
  return previous > 0 ? WINDOW_MS - elapsedMs : 0;
}

export const windowStatus = ({ kind, limit }: RateLimit, counts: WindowCounts, elapsedMs: number): LimitStatus => ({
  kind,
  limit,
  remaining: Math.max(0, Math.floor(limit - weigh(counts, elapsedMs))),
  resetMs: untilEmpty(counts, elapsedMs),
});

export const slotStatus = ({ kind, limit }: RateLimit, held: number): LimitStatus => ({
  kind,
  limit,
  remaining: Math.max(0, limit - held),
  resetMs: 0,
});
