import { setTimeout as sleep } from 'node:timers/promises';
import type { StreamItem } from '../domain/stream-item.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';

export interface StreamWriterOptions {
  readonly log: StreamLog;
  readonly id: string;
  readonly epoch: number;
  readonly onError: (error: unknown) => void;
  /** Keeps what the log cannot take now until it can, where the log is more than a cache. */
  readonly lossless: boolean;
}

/** Milliseconds for which entries are gathered where each write is a row. */
const GATHER_MS = 20;
const RETRY_MS = 250;

/**
 * Writes one attempt's entries in order. Entries that come in while a write is under way go out together with the next,
 * so a slow log costs round trips and never tokens' order.
 */
export class StreamWriter {
  private queue: StreamItem[] = [];
  private writing: Promise<void> | null = null;
  /** Entries handed to the log. */
  shown = 0;
  /** A later attempt took over. */
  outranked = false;
  private readonly options: StreamWriterOptions;

  constructor(options: StreamWriterOptions) {
    this.options = options;
  }

  push(item: StreamItem): void {
    this.shown += 1;
    this.queue.push(item);
    this.writing ??= this.drain();
  }

  /** Resolves when everything pushed so far is written, or the log gave up on it. */
  async flush(): Promise<void> {
    await this.writing;
  }

  private async drain(): Promise<void> {
    const { log, id, epoch, onError, lossless } = this.options;
    // One turn of the event loop gathers what the provider sent in one packet.
    await (lossless ? sleep(GATHER_MS) : Promise.resolve());
    while (this.queue.length > 0 && !this.outranked) {
      const items = this.queue;
      this.queue = [];
      try {
        if (!(await log.append(id, epoch, items))) this.outranked = true;
      } catch (error) {
        onError(error);
        if (!lossless) continue;
        this.queue.unshift(...items);
        await sleep(RETRY_MS);
      }
    }
    this.writing = null;
  }
}
