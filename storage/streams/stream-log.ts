import { endsStream, type StreamItem } from '../../domain/stream-item.ts';
import type { Subscription } from './subscription.ts';

export interface StreamEntry {
  /** From 0, without gaps. */
  readonly seq: number;
  readonly item: StreamItem;
}

/**
 * What a request's caller sees while it runs, in order. A cache of the journal in Postgres: losing it loses no request.
 */
export interface StreamLog {
  /** Appends in order; false when a writer of a later epoch was here, and nothing was appended. */
  append(id: string, epoch: number, items: readonly StreamItem[]): Promise<boolean>;
  /** Entries from `from` on, past and future, until the stream ends or `signal` aborts. Throws when the log is lost. */
  subscribe(id: string, from: number, signal: AbortSignal): AsyncIterable<StreamEntry>;
  /** Entries so far. */
  length(id: string): Promise<number>;
  /** Rejects when the log cannot be reached. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** Milliseconds a stream is kept after its last entry. */
export const STREAM_TTL_MS = 60 * 60 * 1000;

/** Hands an entry to a reader, whose stream ends with the last one. */
export function deliver(reader: Subscription<StreamEntry>, entry: StreamEntry): void {
  reader.push(entry);
  if (endsStream(entry.item)) reader.finish();
}
