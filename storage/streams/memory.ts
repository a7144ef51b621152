import { endsStream, type StreamItem } from '../../domain/stream-item.ts';
import { deliver, STREAM_TTL_MS, type StreamEntry, type StreamLog } from './stream-log.ts';
import { Subscription } from './subscription.ts';

/** Milliseconds an ended stream stays readable; its answer is in Postgres. */
const ENDED_TTL_MS = 30_000;

interface Stream {
  epoch: number;
  readonly entries: StreamEntry[];
  readonly readers: Set<Subscription<StreamEntry>>;
  expiry: NodeJS.Timeout | undefined;
}

/** The stream log of a gateway that is one process. */
export class MemoryStreamLog implements StreamLog {
  private readonly streams = new Map<string, Stream>();

  async append(id: string, epoch: number, items: readonly StreamItem[]): Promise<boolean> {
    const stream = this.stream(id);
    if (epoch < stream.epoch) return false;
    stream.epoch = epoch;
    let ended = false;
    for (const item of items) {
      const entry = { seq: stream.entries.length, item };
      stream.entries.push(entry);
      for (const reader of stream.readers) deliver(reader, entry);
      ended ||= endsStream(item);
    }
    this.expire(id, stream, ended ? ENDED_TTL_MS : STREAM_TTL_MS);
    return true;
  }

  subscribe(id: string, from: number, signal: AbortSignal): AsyncIterable<StreamEntry> {
    const stream = this.stream(id);
    const reader = new Subscription<StreamEntry>(signal, () => {
      stream.readers.delete(reader);
      if (stream.entries.length === 0 && stream.readers.size === 0) this.forget(id, stream);
    });
    stream.readers.add(reader);
    for (const entry of stream.entries.slice(from)) deliver(reader, entry);
    return reader;
  }

  async length(id: string): Promise<number> {
    return this.streams.get(id)?.entries.length ?? 0;
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {
    for (const [id, stream] of this.streams) this.forget(id, stream);
  }

  private stream(id: string): Stream {
    let stream = this.streams.get(id);
    if (!stream) {
      stream = { epoch: 0, entries: [], readers: new Set(), expiry: undefined };
      this.streams.set(id, stream);
    }
    return stream;
  }

  private expire(id: string, stream: Stream, ms: number): void {
    clearTimeout(stream.expiry);
    stream.expiry = setTimeout(() => this.forget(id, stream), ms).unref();
  }

  private forget(id: string, stream: Stream): void {
    clearTimeout(stream.expiry);
    if (this.streams.get(id) === stream) this.streams.delete(id);
  }
}
