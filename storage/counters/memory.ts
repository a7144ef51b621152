import type { RateLimit } from '../../domain/rate-limit.ts';
import { type Admission, type Counters, WINDOW_MS, waitFor } from './counters.ts';

interface Window {
  readonly counts: Map<string, number>;
  readonly admitted: Set<string>;
}

const emptyWindow = (): Window => ({ counts: new Map(), admitted: new Set() });

/** Rate limits of a gateway that is one process. */
export class MemoryCounters implements Counters {
  private start = 0;
  private current = emptyWindow();
  private previous = emptyWindow();
  private readonly now: () => number;

  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  async admit(requestId: string, limits: readonly RateLimit[]): Promise<Admission> {
    const elapsed = this.turn();
    if (this.current.admitted.has(requestId) || this.previous.admitted.has(requestId)) return { admitted: true };
    for (const limit of limits) {
      const counts = { current: count(this.current, limit.name), previous: count(this.previous, limit.name) };
      const retryAfterMs = waitFor(limit.limit, limit.cost, counts, elapsed);
      if (retryAfterMs > 0) return { admitted: false, limit, retryAfterMs };
    }
    for (const { name, cost } of limits) this.current.counts.set(name, count(this.current, name) + cost);
    this.current.admitted.add(requestId);
    return { admitted: true };
  }

  async adjust(name: string, difference: number): Promise<void> {
    this.turn();
    this.current.counts.set(name, Math.max(0, count(this.current, name) + difference));
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

const count = ({ counts }: Window, name: string): number => counts.get(name) ?? 0;
