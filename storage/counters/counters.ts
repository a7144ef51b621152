import type { RateLimit } from '../../domain/rate-limit.ts';

export type Admission =
  | { readonly admitted: true }
  /** `limit` is the one that said no; `retryAfterMs` is when it would say yes if nothing else came in. */
  | { readonly admitted: false; readonly limit: RateLimit; readonly retryAfterMs: number };

/** Rate limits over a sliding window of one minute. */
export interface Counters {
  /** Takes from all limits or from none. Idempotent by request for the length of a window. */
  admit(requestId: string, limits: readonly RateLimit[]): Promise<Admission>;
  /** Corrects what a request took once it is known, e.g. its real tokens. */
  adjust(name: string, difference: number): Promise<void>;
}

export const WINDOW_MS = 60_000;

/** Counts of the running and the previous window. */
export interface WindowCounts {
  readonly current: number;
  readonly previous: number;
}

/**
 * The sliding-window counter: the previous window counts in proportion to how much of it the last minute still covers.
 * Returns 0 when `cost` fits now, else the milliseconds until it would, or `Infinity` when it never can.
 */
export function waitFor(limit: number, cost: number, { current, previous }: WindowCounts, elapsedMs: number): number {
  if (cost > limit) return Number.POSITIVE_INFINITY;
  const elapsed = elapsedMs / WINDOW_MS;
  if (current + previous * (1 - elapsed) + cost <= limit) return 0;
  if (current + cost <= limit) return (1 - (limit - current - cost) / previous - elapsed) * WINDOW_MS;
  return (1 - elapsed + (1 - (limit - cost) / current)) * WINDOW_MS;
}
