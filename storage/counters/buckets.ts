import type { LimitReport, ProviderLimits } from '../../domain/provider-limits.ts';
import { untilEmpty, WINDOW_MS, type WindowCounts, waitFor, weigh } from './counters.ts';

/** One call that asks for its part of a provider's limits. */
export interface BucketRequest {
  /** Among tenants the limits are shared. */
  readonly tenant: string;
  readonly tokens: number;
  /** From the config; the smaller of these and the learned ones holds. */
  readonly limits: ProviderLimits;
}

export interface Taken {
  /** 0 when the call may be made; nothing is taken otherwise. */
  readonly waitMs: number;
  /** false when nothing is known that could limit the call. */
  readonly limited: boolean;
}

/**
 * What a provider allows, shared by everybody who calls it. While more than half of a window is used, a tenant gets no
 * more than its equal share, and one that is alone leaves a fifth, so that a newcomer finds room at once.
 */
export interface Buckets {
  take(bucket: string, request: BucketRequest): Promise<Taken>;
  /** Corrects what a call took once its tokens are known. */
  correct(bucket: string, tenant: string, tokenDifference: number): Promise<void>;
  /** Keeps what the provider said. That it has less left than what was taken here shows that others call it as well. */
  learn(bucket: string, report: LimitReport): Promise<void>;
}

export const BUCKET_KINDS = ['requests', 'tokens'] as const;

export type BucketKind = (typeof BUCKET_KINDS)[number];

/** What one tenant takes of a limit that no other tenant uses. */
export const LONE_SHARE = 0.8;
/** Milliseconds after which a limit that no answer confirmed is forgotten. */
export const LEARNED_TTL_MS = 60 * WINDOW_MS;

export interface BucketUse {
  readonly total: WindowCounts;
  readonly own: WindowCounts;
  /** Tenants that asked in this window or the one before. */
  readonly tenants: number;
}

/** Milliseconds until `cost` fits both the limit and the tenant's share of it. One call always fits an unused share. */
export function waitForShare(
  limit: number,
  cost: number,
  { total, own, tenants }: BucketUse,
  elapsedMs: number,
): number {
  const wait = waitFor(limit, cost, total, elapsedMs);
  if (weigh(total, elapsedMs) + cost <= limit / 2 || weigh(own, elapsedMs) === 0) return wait;
  const share = tenants > 1 ? limit / tenants : limit * LONE_SHARE;
  const ownWait = cost > share ? untilEmpty(own, elapsedMs) : waitFor(share, cost, own, elapsedMs);
  return Math.max(wait, ownWait);
}

/** What the provider said it has left; it grows back at `rate` per millisecond and shrinks by what is taken. */
export interface Remainder {
  left: number;
  readonly at: number;
  readonly rate: number;
}

export const freeOf = ({ left, at, rate }: Remainder, now: number): number => left + rate * (now - at);

/** The smaller of two limits, of which either may not be known. */
export const tighter = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b);
