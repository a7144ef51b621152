import type { Redis } from 'ioredis';
import type { StreamItem } from '../../domain/stream-item.ts';
import { deliver, STREAM_TTL_MS, type StreamEntry, type StreamLog } from './stream-log.ts';
import { Subscription } from './subscription.ts';

/** Checks the epoch, appends, renews the expiry and tells the readers, in one step. Returns the first seq, or -1. */
const APPEND = `
local epoch = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[1]) < epoch then return -1 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local length = redis.call('RPUSH', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local first = length - (#ARGV - 3)
redis.call('PUBLISH', ARGV[3], cjson.encode({ first, unpack(ARGV, 4) }))
return first`;

/** Lua's unpack is limited; a batch of deltas stays well below. */
const MAX_ITEMS_PER_APPEND = 1_000;

interface Reader {
  readonly subscription: Subscription<StreamEntry>;
  /** The next seq to hand out. */
  next: number;
  /** Messages that arrive while the past is read. */
  pending: { readonly first: number; readonly items: readonly string[] }[] | null;
}

/** The stream log shared by the processes of a gateway. */
export class RedisStreamLog implements StreamLog {
  private readonly readers = new Map<string, Set<Reader>>();
  private readonly redis: Redis;
  private readonly subscriber: Redis;

  /** @param subscriber A connection of its own: Redis lets a subscribed one do nothing else. */
  constructor(redis: Redis, subscriber: Redis) {
    this.redis = redis;
    this.subscriber = subscriber;
    this.subscriber.on('message', (channel: string, message: string) => this.onMessage(channel, message));
    this.subscriber.on('close', () => this.failReaders());
  }

  async append(id: string, epoch: number, items: readonly StreamItem[]): Promise<boolean> {
    for (let start = 0; start < items.length; start += MAX_ITEMS_PER_APPEND) {
      const batch = items.slice(start, start + MAX_ITEMS_PER_APPEND).map((item) => JSON.stringify(item));
      const keys = [listKey(id), `${listKey(id)}:epoch`];
      const first = await this.redis.eval(APPEND, keys.length, ...keys, epoch, STREAM_TTL_MS, channelOf(id), ...batch);
      if (first === -1) return false;
    }
    return true;
  }

  subscribe(id: string, from: number, signal: AbortSignal): AsyncIterable<StreamEntry> {
    const channel = channelOf(id);
    const reader: Reader = {
      subscription: new Subscription(signal, () => this.remove(channel, reader)),
      next: from,
      pending: [],
    };
    const readers = this.readers.get(channel) ?? new Set();
    readers.add(reader);
    this.readers.set(channel, readers);
    this.start(id, channel, reader).catch((error: Error) => reader.subscription.fail(error));
    return reader.subscription;
  }

  async length(id: string): Promise<number> {
    return this.redis.llen(listKey(id));
  }

  async ping(): Promise<void> {
    await this.redis.ping();
  }

  async close(): Promise<void> {
    this.failReaders();
  }

  /** Listens first and reads the past second, so that nothing falls between. */
  private async start(id: string, channel: string, reader: Reader): Promise<void> {
    await this.subscriber.subscribe(channel);
    this.deliver(reader, reader.next, await this.redis.lrange(listKey(id), reader.next, -1));
    for (const { first, items } of reader.pending ?? []) this.deliver(reader, first, items);
    reader.pending = null;
  }

  private onMessage(channel: string, message: string): void {
    const [first, ...items] = JSON.parse(message) as [number, ...string[]];
    for (const reader of this.readers.get(channel) ?? []) {
      if (reader.pending) reader.pending.push({ first, items });
      else this.deliver(reader, first, items);
    }
  }

  private deliver(reader: Reader, first: number, items: readonly string[]): void {
    items.forEach((text, offset) => {
      const seq = first + offset;
      if (seq < reader.next) return;
      if (seq > reader.next) {
        reader.subscription.fail(new Error('The stream log lost entries.'));
        return;
      }
      reader.next = seq + 1;
      deliver(reader.subscription, { seq, item: JSON.parse(text) as StreamItem });
    });
  }

  private remove(channel: string, reader: Reader): void {
    const readers = this.readers.get(channel);
    if (!readers?.delete(reader) || readers.size > 0) return;
    this.readers.delete(channel);
    this.subscriber.unsubscribe(channel).catch(() => {});
  }

  private failReaders(): void {
    for (const readers of this.readers.values()) {
      for (const reader of readers) reader.subscription.fail(new Error('The connection to Redis was lost.'));
    }
  }
}

/** The hash tag keeps a stream's keys on one node of a cluster. */
const listKey = (id: string): string => `holdfast:stream:{${id}}`;
const channelOf = (id: string): string => `holdfast:stream:${id}`;
