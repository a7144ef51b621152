import { endsStream, type StreamItem } from '../../domain/stream-item.ts';
import type { RunEvents } from '../postgres/run-events.ts';
import { deliver, type StreamEntry, type StreamLog } from './stream-log.ts';
import { Subscription } from './subscription.ts';

/** Milliseconds after which a reader looks by itself: the news may have been lost. */
const LOOK_MS = 1_000;

/**
 * The stream log of runs in the background: in Postgres before anybody sees it, so that a resumed stream is the stream
 * that was. The other log only carries the news that there is more to read.
 */
export class JournalledStreamLog implements StreamLog {
  private readonly events: RunEvents;
  private readonly news: StreamLog;

  constructor(events: RunEvents, news: StreamLog) {
    this.events = events;
    this.news = news;
  }

  async append(id: string, epoch: number, items: readonly StreamItem[]): Promise<boolean> {
    const appended = await this.events.append(id, epoch, items);
    if (appended) this.announce(id, items.some(endsStream));
    return appended;
  }

  /** Tells readers that there are entries, where somebody else appended them. */
  announce(id: string, last: boolean): void {
    // Readers also look by themselves.
    this.news.append(newsOf(id), 0, [{ type: 'news', last }]).catch(() => {});
  }

  subscribe(id: string, from: number, signal: AbortSignal): AsyncIterable<StreamEntry> {
    const stop = new AbortController();
    const reader = new Subscription<StreamEntry>(signal, () => stop.abort());
    this.pump(id, from, reader, stop.signal).catch((error: Error) => reader.fail(error));
    return reader;
  }

  /** Entries from `from` on that are there now; none only if there are none. */
  read(id: string, from: number): Promise<readonly StreamEntry[]> {
    return this.events.read(id, from);
  }

  length(id: string): Promise<number> {
    return this.events.length(id);
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {}

  private async pump(id: string, from: number, reader: Subscription<StreamEntry>, signal: AbortSignal): Promise<void> {
    const bell = new Bell();
    signal.addEventListener('abort', () => bell.ring(), { once: true });
    void this.listen(id, bell, signal);
    for (let next = from; !signal.aborted; ) {
      const entries = await this.events.read(id, next);
      for (const entry of entries) deliver(reader, entry);
      next = (entries.at(-1)?.seq ?? next - 1) + 1;
      if (entries.length > 0) continue;
      // A log begins with its run: where there is less than was read, or nothing, it was removed and nothing will come.
      if ((await this.events.length(id)) < Math.max(1, next)) reader.finish();
      else await bell.heard(LOOK_MS);
    }
  }

  private async listen(id: string, bell: Bell, signal: AbortSignal): Promise<void> {
    try {
      for await (const _ of this.news.subscribe(newsOf(id), 0, signal)) bell.ring();
    } catch {
      // Without the news the reader looks once a second.
    }
  }
}

/** Apart from the log of the run's request, whose end outranks and precedes that of the run. */
const newsOf = (id: string): string => `${id}:news`;

/** Remembers a ring that nobody waited for. */
class Bell {
  private rung = false;
  private wake: (() => void) | undefined;

  ring(): void {
    if (this.wake) this.wake();
    else this.rung = true;
  }

  /** Resolves at the next ring, or after `ms`. */
  async heard(ms: number): Promise<void> {
    if (!this.rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.wake = undefined;
    this.rung = false;
  }
}
