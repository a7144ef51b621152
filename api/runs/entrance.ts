import { HoldfastError } from '../../domain/errors.ts';

export interface EntranceOptions {
  /** Requests that are let in at the same time: from their storing until Temporal acknowledged their workflow. */
  readonly width: number;
  /** Milliseconds a request waits for its turn at most. */
  readonly patienceMs: number;
}

const RETRY_AFTER_MS = 2_000;

/**
 * Lets requests in a few at a time, in the order they came. Each that is let in leaves work behind, the tasks of its
 * workflow; beyond what the machine can do, more of them at once would only make all of them late and then fail.
 */
export class Entrance {
  private inside = 0;
  private readonly queue = new Set<() => void>();
  private readonly options: EntranceOptions;

  constructor(options: EntranceOptions) {
    this.options = options;
  }

  /** Runs `accept` when it is its turn. Throws `gateway_unavailable` when that takes too long. */
  async pass<T>(accept: () => Promise<T>): Promise<T> {
    await this.turn();
    try {
      return await accept();
    } finally {
      this.leave();
    }
  }

  private async turn(): Promise<void> {
    if (this.inside < this.options.width) {
      this.inside += 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.queue.delete(enter);
        reject(overloaded());
      }, this.options.patienceMs);
      this.queue.add(enter);
    });
  }

  /** Who leaves hands its place to the one that waits longest. */
  private leave(): void {
    const [enter] = this.queue;
    if (!enter) {
      this.inside -= 1;
      return;
    }
    this.queue.delete(enter);
    enter();
  }
}

const overloaded = () =>
  new HoldfastError('gateway_unavailable', 'The gateway has more requests than it can take. Try again shortly.', {
    retryAfterMs: RETRY_AFTER_MS,
  });
