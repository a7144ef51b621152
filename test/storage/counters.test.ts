import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { newId } from '../../domain/ids.ts';
import type { RateLimit } from '../../domain/rate-limit.ts';
import { type Counters, WINDOW_MS, waitFor } from '../../storage/counters/counters.ts';
import { MemoryCounters } from '../../storage/counters/memory.ts';
import { RedisCounters } from '../../storage/counters/redis.ts';

const requests = (name: string, limit: number, cost = 1): RateLimit => ({
  name: `${name}:requests`,
  kind: 'requests',
  limit,
  cost,
});
const tokens = (name: string, limit: number, cost: number): RateLimit => ({
  name: `${name}:tokens`,
  kind: 'tokens',
  limit,
  cost,
});

/** A test that would straddle two windows waits for the next one. */
async function withinOneWindow(): Promise<void> {
  const left = WINDOW_MS - (Date.now() % WINDOW_MS);
  if (left < 3_000) await sleep(left + 50);
}

function contract(open: () => Counters): void {
  const admit = async (counters: Counters, ...limits: Parameters<Counters['admit']>[1]) =>
    counters.admit(newId('chatcmpl'), limits);

  it('admits up to the limit and then says when to come back', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    for (let i = 0; i < 3; i += 1) expect((await admit(counters, requests(name, 3))).admitted).toBe(true);
    const refused = await admit(counters, requests(name, 3));
    expect(refused).toMatchObject({ admitted: false, limit: { name: `${name}:requests` } });
    if (refused.admitted) return;
    expect(refused.retryAfterMs).toBeGreaterThan(0);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(2 * WINDOW_MS);
  });

  it('takes from all limits or from none', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    expect((await admit(counters, requests(name, 2), tokens(name, 100, 60))).admitted).toBe(true);
    const refused = await admit(counters, requests(name, 2), tokens(name, 100, 60));
    expect(refused).toMatchObject({ admitted: false, limit: { name: `${name}:tokens` } });
    // The refused request took nothing from the request limit either.
    expect((await admit(counters, requests(name, 2), tokens(name, 100, 40))).admitted).toBe(true);
    expect((await admit(counters, requests(name, 2), tokens(name, 1_000, 1))).admitted).toBe(false);
  });

  it('takes a repeated request once', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    const id = newId('chatcmpl');
    for (let i = 0; i < 5; i += 1) expect((await counters.admit(id, [requests(name, 2)])).admitted).toBe(true);
    expect((await admit(counters, requests(name, 2))).admitted).toBe(true);
    expect((await admit(counters, requests(name, 2))).admitted).toBe(false);
  });

  it('tells a request that is larger than the limit that it never fits', async () => {
    expect(await admit(open(), tokens(newId('vk'), 100, 101))).toMatchObject({
      admitted: false,
      retryAfterMs: Number.POSITIVE_INFINITY,
    });
  });

  it('admits exactly the limit when everybody comes at once', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    const results = await Promise.all(Array.from({ length: 50 }, () => admit(counters, requests(name, 20))));
    expect(results.filter((result) => result.admitted)).toHaveLength(20);
  });

  it('is corrected by what a request really used', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    await admit(counters, tokens(name, 100, 90));
    await counters.adjust(`${name}:tokens`, -80);
    expect((await admit(counters, tokens(name, 100, 80))).admitted).toBe(true);
    await counters.adjust(`${name}:tokens`, 50);
    expect((await admit(counters, tokens(name, 100, 1))).admitted).toBe(false);
    await counters.adjust(`${name}:tokens`, -1_000_000);
    expect((await admit(counters, tokens(name, 100, 101 - 1))).admitted).toBe(true);
  });
}

describe('rate limits in memory', () => {
  contract(() => new MemoryCounters());

  it('slide: the previous minute counts for as much of it as the last minute covers', async () => {
    let now = 10 * WINDOW_MS;
    const counters = new MemoryCounters(() => now);
    const one: RateLimit = { name: 'k', kind: 'requests', limit: 10, cost: 10 };
    expect((await counters.admit('a', [one])).admitted).toBe(true);
    now += WINDOW_MS + WINDOW_MS / 2;
    expect((await counters.admit('b', [{ ...one, cost: 6 }])).admitted).toBe(false);
    expect((await counters.admit('c', [{ ...one, cost: 5 }])).admitted).toBe(true);
  });
});

const url = inject('redis');
describe.skipIf(url === null)('rate limits in Redis', () => {
  const redis = url === null ? undefined : new Redis(url);
  afterAll(() => redis?.disconnect());
  contract(() => new RedisCounters(redis as Redis));
});

describe('waitFor', () => {
  it('is the least wait after which the request fits', () => {
    const counts = fc.record({ current: fc.nat({ max: 200 }), previous: fc.nat({ max: 200 }) });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.nat({ max: 200 }),
        counts,
        fc.nat({ max: WINDOW_MS - 1 }),
        (limit, cost, c, elapsed) => {
          const wait = waitFor(limit, cost, c, elapsed);
          if (cost > limit) {
            expect(wait).toBe(Number.POSITIVE_INFINITY);
            return;
          }
          const used = (at: number) => {
            const covered = 1 - (at % WINDOW_MS) / WINDOW_MS;
            if (at < WINDOW_MS) return c.current + c.previous * covered;
            return at < 2 * WINDOW_MS ? c.current * covered : 0;
          };
          expect(used(elapsed + wait) + cost).toBeLessThanOrEqual(limit + 1e-6);
          if (wait > 1) expect(used(elapsed + wait - 1) + cost).toBeGreaterThan(limit);
        },
      ),
    );
  });
});
