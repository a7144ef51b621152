import type { StreamItem } from '../domain/stream-item.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';

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
  private readonly log: StreamLog;
  private readonly id: string;
  private readonly epoch: number;
  private readonly onError: (error: unknown) => void;

  constructor(log: StreamLog, id: string, epoch: number, onError: (error: unknown) => void) {
    this.log = log;
    this.id = id;
    this.epoch = epoch;
    this.onError = onError;
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
    // One turn of the event loop gathers what the provider sent in one packet.
    await Promise.resolve();
    while (this.queue.length > 0) {
      const items = this.queue;
      this.queue = [];
      try {
        if (!(await this.log.append(this.id, this.epoch, items))) this.outranked = true;
      } catch (error) {
        // The log is a cache: the caller gets the answer from the journal instead.
        this.onError(error);
      }
    }
    this.writing = null;
  }
}
