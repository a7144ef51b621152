import { Redis } from 'ioredis';
import type { Buckets } from '../storage/counters/buckets.ts';
import type { Counters } from '../storage/counters/counters.ts';
import { MemoryCounters } from '../storage/counters/memory.ts';
import { MemoryBuckets } from '../storage/counters/memory-buckets.ts';
import { RedisCounters } from '../storage/counters/redis.ts';
import { RedisBuckets } from '../storage/counters/redis-buckets.ts';
import { MemoryStreamLog } from '../storage/streams/memory.ts';
import { RedisStreamLog } from '../storage/streams/redis.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';

const REDIS_TIMEOUT_MS = 2_000;

/** Streams and counters: in Redis if there is one, else in this process. */
export async function openSharedState(
  redisUrl: string | undefined,
  onError: (error: Error) => void,
  closers: (() => Promise<unknown> | unknown)[],
): Promise<{ readonly streams: StreamLog; readonly counters: Counters; readonly buckets: Buckets }> {
  if (!redisUrl) {
    const streams = new MemoryStreamLog();
    closers.push(() => streams.close());
    return { streams, counters: new MemoryCounters(), buckets: new MemoryBuckets() };
  }
  // A command fails at once when Redis is away: the caller is served without it rather than kept waiting.
  const redis = new Redis(redisUrl, {
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout: REDIS_TIMEOUT_MS,
  });
  const subscriber = redis.duplicate();
  closers.push(
    () => redis.disconnect(),
    () => subscriber.disconnect(),
  );
  for (const connection of [redis, subscriber]) connection.on('error', onError);
  // Redis holds caches only: without it the gateway starts all the same, and ioredis keeps connecting.
  await Promise.all([redis.connect(), subscriber.connect()]).catch(onError);
  return {
    streams: new RedisStreamLog(redis, subscriber),
    counters: new RedisCounters(redis),
    buckets: new RedisBuckets(redis),
  };
}
