import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, describe, expect, it } from 'vitest';
import { newId } from '../../domain/ids.ts';
import type { RateLimit } from '../../domain/rate-limit.ts';
import {
  type AdmissionOptions,
  type Counters,
  WAITER_TTL_MS,
  WINDOW_MS,
  waitFor,
} from '../../storage/counters/counters.ts';
import { MemoryCounters } from '../../storage/counters/memory.ts';
import { RedisCounters } from '../../storage/counters/redis.ts';
import { eventually } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';

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

const slots = (name: string, limit: number): RateLimit => ({
  name: `${name}:concurrent`,
  kind: 'concurrent',
  limit,
  cost: 1,
});

const ONCE: AdmissionOptions = { leaseMs: 60_000, priority: 'interactive', waits: false };
const WAITING: AdmissionOptions = { ...ONCE, waits: true };
const BATCH: AdmissionOptions = { ...WAITING, priority: 'batch' };

function contract(open: () => Counters): void {
  const admit = async (counters: Counters, ...limits: readonly RateLimit[]) =>
    counters.admit(newId('chatcmpl'), limits, ONCE);
  const take = async (counters: Counters, options: AdmissionOptions, ...limits: readonly RateLimit[]) => {
    const id = newId('chatcmpl');
    const { admitted } = await counters.admit(id, limits, options);
    return { id, admitted, release: () => counters.release(id, limits, 0) };
  };
  const free = async (counters: Counters, limit: RateLimit) => (await counters.status([limit]))[0]?.remaining;

  it('gives the slots of a request that stands by to others until it is admitted again', async () => {
    const counters = open();
    const limit = slots(newId('vk'), 1);
    const { id } = await take(counters, ONCE, limit);
    await counters.standBy(id, [limit]);
    const other = await take(counters, ONCE, limit);
    expect(other.admitted).toBe(true);
    expect((await counters.admit(id, [limit], ONCE)).admitted).toBe(false);
    await other.release();
    expect((await counters.admit(id, [limit], ONCE)).admitted).toBe(true);
    expect(await free(counters, limit)).toBe(0);
  });

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
    for (let i = 0; i < 5; i += 1) expect((await counters.admit(id, [requests(name, 2)], ONCE)).admitted).toBe(true);
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

  it('is corrected, once, by what a request really used', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    const id = newId('chatcmpl');
    const limit = tokens(name, 100, 90);
    await counters.admit(id, [limit], ONCE);
    for (let i = 0; i < 3; i += 1) await counters.release(id, [limit], -80);
    expect(await free(counters, limit)).toBe(90);
    const more = newId('chatcmpl');
    await counters.admit(more, [tokens(name, 100, 10)], ONCE);
    await counters.release(more, [limit], 75);
    expect((await admit(counters, tokens(name, 100, 6))).admitted).toBe(false);
    await counters.release(newId('chatcmpl'), [limit], -1_000_000);
    expect((await admit(counters, tokens(name, 100, 100))).admitted).toBe(true);
  });

  it('tells what is left and when all of it is back', async () => {
    await withinOneWindow();
    const counters = open();
    const name = newId('vk');
    const all = [requests(name, 5), tokens(name, 100, 30), slots(name, 3)];
    const untouched = { remaining: 5, resetMs: 0 };
    expect((await counters.status(all))[0]).toMatchObject(untouched);
    await admit(counters, ...all);
    const [ofRequests, ofTokens, ofSlots] = await counters.status(all);
    expect(ofRequests).toMatchObject({ kind: 'requests', limit: 5, remaining: 4 });
    expect(ofRequests?.resetMs).toBeGreaterThan(WINDOW_MS);
    expect(ofRequests?.resetMs).toBeLessThanOrEqual(2 * WINDOW_MS);
    expect(ofTokens).toMatchObject({ kind: 'tokens', limit: 100, remaining: 70 });
    expect(ofSlots).toEqual({ kind: 'concurrent', limit: 3, remaining: 2, resetMs: 0 });
  });

  it('of what runs at the same time holds a slot until it is released', async () => {
    const counters = open();
    const limit = slots(newId('team'), 2);
    const first = await take(counters, ONCE, limit);
    expect((await take(counters, ONCE, limit)).admitted).toBe(true);
    expect(await admit(counters, limit)).toMatchObject({ admitted: false, limit, retryAfterMs: expect.any(Number) });
    await first.release();
    await first.release();
    expect(await free(counters, limit)).toBe(1);
    expect((await take(counters, ONCE, limit)).admitted).toBe(true);
    expect((await take(counters, ONCE, limit)).admitted).toBe(false);
  });

  it('takes one slot for a request that asks again', async () => {
    const counters = open();
    const limit = slots(newId('team'), 2);
    const id = newId('chatcmpl');
    for (let i = 0; i < 3; i += 1) expect((await counters.admit(id, [limit], ONCE)).admitted).toBe(true);
    expect(await free(counters, limit)).toBe(1);
  });

  it('gives no slot to a request that was released before it asked', async () => {
    const counters = open();
    const limit = slots(newId('team'), 2);
    const id = newId('chatcmpl');
    await counters.release(id, [limit], 0);
    expect((await counters.admit(id, [limit], ONCE)).admitted).toBe(true);
    expect(await free(counters, limit)).toBe(2);
  });

  it('frees the slot of a request that nobody released when its lease ends', async () => {
    const counters = open();
    const limit = slots(newId('team'), 2);
    await take(counters, ONCE, limit);
    await take(counters, { ...ONCE, leaseMs: 300 }, limit);
    expect(await free(counters, limit)).toBe(0);
    await eventually(async () => (await free(counters, limit)) === 1);
    expect((await take(counters, ONCE, limit)).admitted).toBe(true);
    expect((await take(counters, ONCE, limit)).admitted).toBe(false);
  });

  it('lets batch requests in only when no interactive one waits', async () => {
    const counters = open();
    const limit = slots(newId('team'), 1);
    const holder = await take(counters, ONCE, limit);
    const interactive = newId('chatcmpl');
    expect((await counters.admit(interactive, [limit], WAITING)).admitted).toBe(false);
    expect((await take(counters, BATCH, limit)).admitted).toBe(false);
    await holder.release();
    expect((await take(counters, BATCH, limit)).admitted).toBe(false);
    expect((await counters.admit(interactive, [limit], WAITING)).admitted).toBe(true);
    await counters.release(interactive, [limit], 0);
    expect((await take(counters, BATCH, limit)).admitted).toBe(true);
  });

  it('waits neither for interactive requests that were refused for good nor for those that gave up', async () => {
    const counters = open();
    const limit = slots(newId('team'), 1);
    const holder = await take(counters, ONCE, limit);
    await take(counters, ONCE, limit);
    const waiting = await take(counters, WAITING, limit);
    await holder.release();
    await waiting.release();
    expect((await take(counters, BATCH, limit)).admitted).toBe(true);
  });
}

describe('rate limits in memory', () => {
  contract(() => new MemoryCounters());

  it('slide: the previous minute counts for as much of it as the last minute covers', async () => {
    let now = 10 * WINDOW_MS;
    const counters = new MemoryCounters(() => now);
    const one: RateLimit = { name: 'k', kind: 'requests', limit: 10, cost: 10 };
    expect((await counters.admit('a', [one], ONCE)).admitted).toBe(true);
    now += WINDOW_MS + WINDOW_MS / 2;
    expect((await counters.admit('b', [{ ...one, cost: 6 }], ONCE)).admitted).toBe(false);
    expect((await counters.admit('c', [{ ...one, cost: 5 }], ONCE)).admitted).toBe(true);
  });

  it('forget an interactive request that stopped asking', async () => {
    let now = 10 * WINDOW_MS;
    const counters = new MemoryCounters(() => now);
    const one: RateLimit = { name: 'k', kind: 'concurrent', limit: 1, cost: 1 };
    await counters.admit('holder', [one], { ...ONCE, leaseMs: 1_000 });
    await counters.admit('gone', [one], WAITING);
    now += 1_000;
    expect((await counters.admit('batch', [one], BATCH)).admitted).toBe(false);
    now += WAITER_TTL_MS;
    expect((await counters.admit('batch', [one], BATCH)).admitted).toBe(true);
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
