import { LRUCache } from 'lru-cache';
import { type Admission, type Counters, type RateLimit, WINDOW_MS, waitFor } from './counters.ts';

interface Window {
  readonly start: number;
  current: number;
  previous: number;
}

/** Rate limits of a gateway that is one process. */
export class MemoryCounters implements Counters {
  private readonly windows = new LRUCache<string, Window>({ max: 100_000, ttl: 2 * WINDOW_MS });
  private readonly admitted = new LRUCache<string, true>({ max: 1_000_000, ttl: WINDOW_MS });
  private readonly now: () => number;

  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  async admit(requestId: string, limits: readonly RateLimit[]): Promise<Admission> {
    if (this.admitted.has(requestId)) return { admitted: true };
    const now = this.now();
    for (const limit of limits) {
      const retryAfterMs = waitFor(limit.limit, limit.cost, this.window(limit.name, now), now % WINDOW_MS);
      if (retryAfterMs > 0) return { admitted: false, limit, retryAfterMs };
    }
    for (const { name, cost } of limits) this.window(name, now).current += cost;
    this.admitted.set(requestId, true);
    return { admitted: true };
  }

  async adjust(name: string, difference: number): Promise<void> {
    const window = this.window(name, this.now());
    window.current = Math.max(0, window.current + difference);
  }

  private window(name: string, now: number): Window {
    const start = now - (now % WINDOW_MS);
    const known = this.windows.get(name);
    if (known?.start === start) return known;
    const previous = known?.start === start - WINDOW_MS ? known.current : 0;
    const window = { start, current: 0, previous };
    this.windows.set(name, window);
    return window;
  }
}
