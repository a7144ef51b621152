import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, describe, expect, it } from 'vitest';
import type { Buckets } from '../../storage/counters/buckets.ts';
import { WINDOW_MS } from '../../storage/counters/counters.ts';
import { MemoryBuckets } from '../../storage/counters/memory-buckets.ts';
import { RedisBuckets } from '../../storage/counters/redis-buckets.ts';
import { eventually } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';

/** A test that would straddle two windows waits for the next one. */
async function withinOneWindow(): Promise<void> {
  const left = WINDOW_MS - (Date.now() % WINDOW_MS);
  if (left < 3_000) await sleep(left + 50);
}

function contract(open: () => Buckets): void {
  const bucketOf = () => `provider/${crypto.randomUUID()}`;
  const take = async (buckets: Buckets, bucket: string, tenant = 'a', tokens = 10, limits = {}) =>
    (await buckets.take(bucket, { tenant, tokens, limits })).waitMs;
  const takeMany = async (count: number, ...args: Parameters<typeof take>) => {
    const waits = await Promise.all(Array.from({ length: count }, () => take(...args)));
    return waits.filter((wait) => wait === 0).length;
  };

  it('is off while nothing is known', async () => {
    const [buckets, bucket] = [open(), bucketOf()];
    expect(await buckets.take(bucket, { tenant: 'a', tokens: 1e9, limits: {} })).toEqual({ waitMs: 0, limited: false });
  });

  it('keeps the limits of the config and says how long to wait', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    const limits = { requests: 10 };
    expect(await takeMany(5, buckets, bucket, 'a', 1, limits)).toBe(5);
    expect(await takeMany(5, buckets, bucket, 'b', 1, limits)).toBe(5);
    const { waitMs, limited } = await buckets.take(bucket, { tenant: 'b', tokens: 1, limits });
    expect(limited).toBe(true);
    expect(waitMs).toBeGreaterThan(0);
    expect(waitMs).toBeLessThanOrEqual(2 * WINDOW_MS);
  });

  it('learns limits, and the smaller of learned and configured holds', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    await buckets.learn(bucket, { requests: { limit: 10 } });
    expect(await takeMany(20, buckets, bucket, 'a', 1, { requests: 1_000 })).toBe(8);
    expect(await takeMany(20, buckets, bucketOf(), 'a', 1, { requests: 5 })).toBe(4);
  });

  it('leaves a fifth to whom comes later when one tenant is alone', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    const limits = { requests: 100 };
    expect(await takeMany(200, buckets, bucket, 'a', 1, limits)).toBe(80);
    expect(await takeMany(200, buckets, bucket, 'b', 1, limits)).toBe(20);
  });

  it('takes requests and tokens together or neither', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    const limits = { requests: 100, tokens: 100 };
    expect(await take(buckets, bucket, 'a', 50, limits)).toBe(0);
    expect(await takeMany(30, buckets, bucket, 'a', 50, limits)).toBe(0);
    expect(await takeMany(100, buckets, bucket, 'a', 0, { requests: 100 })).toBe(79);
  });

  it('lets a call through that is larger than its share when nothing else is used', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    expect(await take(buckets, bucket, 'a', 5_000, { tokens: 100 })).toBe(0);
    expect(await take(buckets, bucket, 'b', 1, { tokens: 100 })).toBeGreaterThan(0);
  });

  it('is corrected by the tokens a call really used', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    const limits = { tokens: 100 };
    await take(buckets, bucket, 'a', 80, limits);
    await buckets.correct(bucket, 'a', -70);
    expect(await take(buckets, bucket, 'a', 70, limits)).toBe(0);
    await buckets.correct(bucket, 'a', 1_000);
    expect(await take(buckets, bucket, 'b', 1, limits)).toBeGreaterThan(0);
    await buckets.correct(bucket, 'a', -1_000_000);
    expect(await take(buckets, bucket, 'b', 50, limits)).toBe(0);
  });

  it('heeds what the provider says is left, which grows back', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    await buckets.learn(bucket, { requests: { limit: 100, remaining: 1, resetMs: 30_000 } });
    expect(await takeMany(10, buckets, bucket)).toBe(1);
    const wait = await take(buckets, bucket);
    expect(wait).toBeGreaterThan(50);
    expect(wait).toBeLessThanOrEqual(31_000 / 99);
    await eventually(async () => (await take(buckets, bucket)) === 0);
  });

  it('does not believe an old answer that more is left', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    const limits = { requests: 10 };
    await takeMany(5, buckets, bucket, 'a', 1, limits);
    await takeMany(5, buckets, bucket, 'b', 1, limits);
    await buckets.learn(bucket, { requests: { limit: 10, remaining: 9, resetMs: 100 } });
    expect(await take(buckets, bucket, 'a', 1, limits)).toBeGreaterThan(0);
  });

  it('pauses', async () => {
    const [buckets, bucket] = [open(), bucketOf()];
    await buckets.learn(bucket, { pauseMs: 300 });
    const wait = await take(buckets, bucket);
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(300);
    await eventually(async () => (await take(buckets, bucket)) === 0);
  });

  it('gives exactly the limit to a crowd', async () => {
    await withinOneWindow();
    const [buckets, bucket] = [open(), bucketOf()];
    const limits = { requests: 40 };
    const tenants = ['a', 'b', 'c', 'd'];
    for (const tenant of tenants) await take(buckets, bucket, tenant, 1, limits);
    const got = await Promise.all(tenants.map((tenant) => takeMany(40, buckets, bucket, tenant, 1, limits)));
    expect(got.reduce((sum, count) => sum + count, tenants.length)).toBeLessThanOrEqual(40);
    expect(Math.min(...got)).toBeGreaterThan(0);
  });
}

describe('buckets in memory', () => {
  contract(() => new MemoryBuckets());

  const L = 'p/m';
  it('never refuse a steady tenant below its share because of a bursty one, and never pass the limit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 20, max: 400 }),
        fc.double({ min: 0.1, max: 1, noNaN: true }),
        fc.nat({ max: WINDOW_MS - 1 }),
        fc.array(fc.nat({ max: 4 * WINDOW_MS }), { minLength: 1, maxLength: 12 }),
        async (limit, part, phase, bursts) => {
          const begin = 100 * WINDOW_MS + phase;
          let now = begin;
          const buckets = new MemoryBuckets(() => now);
          const taken: number[] = [];
          const take = async (tenant: string) => {
            const { waitMs } = await buckets.take(L, { tenant, tokens: 0, limits: { requests: limit } });
            if (waitMs === 0) taken.push(Math.floor(now / WINDOW_MS));
            return waitMs === 0;
          };
          // Where the window turns, a steady minute counts up to two requests more.
          const perMinute = Math.max(1, Math.floor(part * (limit / 2 - 3)));
          const steady = Array.from({ length: perMinute * 4 }, (_, i) => ({
            at: (i * WINDOW_MS) / perMinute,
            who: 'b',
          }));
          const bursty = bursts.map((at) => ({ at: at + 1, who: 'a' }));
          for (const { at, who } of [...steady, ...bursty].sort((x, y) => x.at - y.at)) {
            now = begin + Math.floor(at);
            if (who === 'b') expect(await take('b')).toBe(true);
            else for (let i = 0; i < 50 * perMinute && (await take('a')); i += 1);
          }
          for (const window of new Set(taken)) {
            expect(taken.filter((w) => w === window).length).toBeLessThanOrEqual(limit);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('forget a tenant that stopped asking', async () => {
    let now = 100 * WINDOW_MS;
    const buckets = new MemoryBuckets(() => now);
    const limits = { requests: 100 };
    const takeAll = async () => {
      let count = 0;
      while ((await buckets.take(L, { tenant: 'a', tokens: 0, limits })).waitMs === 0) count += 1;
      return count;
    };
    await buckets.take(L, { tenant: 'b', tokens: 0, limits });
    expect(await takeAll()).toBe(50);
    now += 2 * WINDOW_MS;
    expect(await takeAll()).toBe(80);
  });
});

const url = inject('redis');
describe.skipIf(url === null)('buckets in Redis', () => {
  const redis = url === null ? undefined : new Redis(url);
  afterAll(() => redis?.disconnect());
  contract(() => new RedisBuckets(redis as Redis));
});
