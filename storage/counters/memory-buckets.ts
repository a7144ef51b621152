import { LRUCache } from 'lru-cache';
import type { LimitReport, ReportedLimit } from '../../domain/provider-limits.ts';
import {
  BUCKET_KINDS,
  type BucketKind,
  type BucketRequest,
  type Buckets,
  freeOf,
  LEARNED_TTL_MS,
  type Remainder,
  type Taken,
  tighter,
  waitForShare,
} from './buckets.ts';
import { WINDOW_MS, type WindowCounts, weigh } from './counters.ts';

/** Takings by tenant. */
type Takings = Map<string, number>;

interface Window {
  readonly requests: Takings;
  readonly tokens: Takings;
  readonly tenants: Set<string>;
}

interface Learned {
  readonly limit: number;
  readonly until: number;
  readonly remainder: Remainder | undefined;
}

interface Bucket {
  start: number;
  current: Window;
  previous: Window;
  readonly learned: Map<BucketKind, Learned>;
  pausedUntil: number;
}

const MAX_BUCKETS = 1_000;
/** What all tenants took. */
const ALL = '*';

const emptyWindow = (): Window => ({ requests: new Map(), tokens: new Map(), tenants: new Set() });

/** Providers' limits in a gateway that is one process. */
export class MemoryBuckets implements Buckets {
  private readonly buckets = new LRUCache<string, Bucket>({ max: MAX_BUCKETS });
  private readonly now: () => number;

  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  async take(name: string, { tenant, tokens, limits }: BucketRequest): Promise<Taken> {
    const now = this.now();
    const { bucket, elapsedMs } = this.open(name, now);
    bucket.current.tenants.add(tenant);
    const tenants = new Set([...bucket.current.tenants, ...bucket.previous.tenants]).size;
    let waitMs = Math.max(0, bucket.pausedUntil - now);
    let limited = waitMs > 0;
    const takings: (() => void)[] = [];
    for (const kind of BUCKET_KINDS) {
      const learned = learnedOf(bucket, kind, now);
      const limit = tighter(limits[kind], learned?.limit);
      if (limit === undefined) continue;
      limited = true;
      const cost = Math.min(kind === 'requests' ? 1 : tokens, limit);
      const use = { total: countsOf(bucket, kind, ALL), own: countsOf(bucket, kind, tenant), tenants };
      waitMs = Math.max(waitMs, waitForShare(limit, cost, use, elapsedMs));
      const remainder = learned?.remainder;
      if (remainder) waitMs = Math.max(waitMs, (cost - freeOf(remainder, now)) / remainder.rate);
      takings.push(() => {
        add(bucket, kind, ALL, cost);
        add(bucket, kind, tenant, cost);
        if (remainder) remainder.left -= cost;
      });
    }
    if (waitMs > 0) return { waitMs: Math.ceil(waitMs), limited };
    for (const take of takings) take();
    return { waitMs: 0, limited };
  }

  async correct(name: string, tenant: string, tokenDifference: number): Promise<void> {
    const { bucket } = this.open(name, this.now());
    const own = bucket.current.tokens.get(tenant) ?? 0;
    const difference = Math.max(-own, tokenDifference);
    add(bucket, 'tokens', tenant, difference);
    add(bucket, 'tokens', ALL, difference);
  }

  async learn(name: string, report: LimitReport): Promise<void> {
    const now = this.now();
    const { bucket, elapsedMs } = this.open(name, now);
    if (report.pauseMs !== undefined) bucket.pausedUntil = Math.max(bucket.pausedUntil, now + report.pauseMs);
    for (const kind of BUCKET_KINDS) {
      const said = report[kind];
      if (!said) continue;
      const known = learnedOf(bucket, kind, now)?.remainder;
      const believed = known ? freeOf(known, now) : said.limit - weigh(countsOf(bucket, kind, ALL), elapsedMs);
      const remainder = remainderOf(said, believed, now) ?? known;
      bucket.learned.set(kind, { limit: said.limit, until: now + LEARNED_TTL_MS, remainder });
    }
  }

  /** The bucket in its running window. */
  private open(name: string, now: number): { readonly bucket: Bucket; readonly elapsedMs: number } {
    const start = now - (now % WINDOW_MS);
    let bucket = this.buckets.get(name);
    if (!bucket) {
      bucket = { start, current: emptyWindow(), previous: emptyWindow(), learned: new Map(), pausedUntil: 0 };
      this.buckets.set(name, bucket);
    }
    if (start !== bucket.start) {
      bucket.previous = start === bucket.start + WINDOW_MS ? bucket.current : emptyWindow();
      bucket.current = emptyWindow();
      bucket.start = start;
    }
    return { bucket, elapsedMs: now - start };
  }
}

/** What was learned, unless it is too old; a remainder that has grown back to the limit says nothing any more. */
function learnedOf({ learned }: Bucket, kind: BucketKind, now: number): Learned | undefined {
  const known = learned.get(kind);
  if (!known || known.until <= now) return undefined;
  if (!known.remainder || freeOf(known.remainder, now) < known.limit) return known;
  return { ...known, remainder: undefined };
}

function remainderOf({ limit, remaining, resetMs }: ReportedLimit, believed: number, now: number) {
  if (remaining === undefined || remaining >= Math.min(limit, believed)) return undefined;
  return { left: remaining, at: now, rate: (limit - remaining) / (resetMs || WINDOW_MS) };
}

const countsOf = ({ current, previous }: Bucket, kind: BucketKind, who: string): WindowCounts => ({
  current: current[kind].get(who) ?? 0,
  previous: previous[kind].get(who) ?? 0,
});

const add = ({ current }: Bucket, kind: BucketKind, who: string, difference: number) =>
  current[kind].set(who, (current[kind].get(who) ?? 0) + difference);
