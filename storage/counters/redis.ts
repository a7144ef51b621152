import type { Redis } from 'ioredis';
import type { LimitStatus, RateLimit } from '../../domain/rate-limit.ts';
import {
  type Admission,
  type AdmissionOptions,
  type Counters,
  NO_CLOCK_RETRY_MS,
  slotStatus,
  WAITER_TTL_MS,
  WINDOW_MS,
  windowStatus,
} from './counters.ts';
import { CLOCK, WAIT_FOR } from './lua.ts';

/**
 * The sum of counters.ts's `waitFor` and its queues over all limits, then all are taken or none.
 * KEYS: the request's mark; for each limit what is counted, and who waits for it.
 * ARGV: window, request, lease, priority, whether it waits, no-clock retry, waiter's time to live; for each limit kind,
 * limit, cost. Returns {0}, or {index of the limit that says no for longest, milliseconds or -1 for never}.
 */
const ADMIT = `${CLOCK}${WAIT_FOR}
if redis.call('EXISTS', KEYS[1]) == 1 then return { 0 } end
local request, lease, retry, ttl = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[6]), tonumber(ARGV[7])
local batch, waiting = ARGV[4] == 'batch', ARGV[5] == '1'
local count = (#KEYS - 1) / 2
local waits, longest = {}, 0
for i = 1, count do
  local key, queue = KEYS[2 * i], KEYS[2 * i + 1]
  local kind, limit, cost = ARGV[3 * i + 5], tonumber(ARGV[3 * i + 6]), tonumber(ARGV[3 * i + 7])
  local wait = 0
  if cost > limit then return { i, -1 } end
  if kind == 'concurrent' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    if not redis.call('ZSCORE', key, request) and redis.call('ZCARD', key) + cost > limit then wait = retry end
  else
    local current = tonumber(redis.call('GET', key .. ':' .. id) or '0')
    local previous = tonumber(redis.call('GET', key .. ':' .. (id - 1)) or '0')
    wait = math.ceil(wait_for(limit, cost, current, previous))
  end
  if wait == 0 and batch then
    redis.call('ZREMRANGEBYSCORE', queue, '-inf', now)
    if redis.call('ZCARD', queue) > 0 then wait = retry end
  end
  waits[i] = wait
  if longest == 0 and wait > 0 or longest > 0 and wait > waits[longest] then longest = i end
end
if longest > 0 then
  for i = 1, count do
    if waiting and not batch and waits[i] > 0 then
      redis.call('ZADD', KEYS[2 * i + 1], now + ttl, request)
      redis.call('PEXPIRE', KEYS[2 * i + 1], ttl)
    end
  end
  return { longest, waits[longest] }
end
for i = 1, count do
  local key = KEYS[2 * i]
  redis.call('ZREM', KEYS[2 * i + 1], request)
  if ARGV[3 * i + 5] == 'concurrent' then
    redis.call('ZADD', key, now + lease, request)
    if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, lease) end
  else
    redis.call('INCRBY', key .. ':' .. id, ARGV[3 * i + 7])
    redis.call('PEXPIRE', key .. ':' .. id, 2 * window)
  end
end
redis.call('SET', KEYS[1], 'admitted', 'PX', window)
return { 0 }`;

/** KEYS: as above. ARGV: window, request, token difference; for each limit its kind. */
const RELEASE = `${CLOCK}
local corrected = redis.call('GET', KEYS[1]) == 'released'
for i = 1, (#KEYS - 1) / 2 do
  local key, kind = KEYS[2 * i], ARGV[3 + i]
  redis.call('ZREM', KEYS[2 * i + 1], ARGV[2])
  if kind == 'concurrent' then
    redis.call('ZREM', key, ARGV[2])
  elseif kind == 'tokens' and not corrected and ARGV[3] ~= '0' then
    local value = tonumber(redis.call('GET', key .. ':' .. id) or '0') + tonumber(ARGV[3])
    redis.call('SET', key .. ':' .. id, math.max(0, value), 'PX', 2 * window)
  end
end
redis.call('SET', KEYS[1], 'released', 'PX', window)`;

/** KEYS: what is counted. ARGV: window; for each limit its kind. Returns milliseconds elapsed and two counts a limit. */
const STATUS = `${CLOCK}
local counts = { now % window }
for i, key in ipairs(KEYS) do
  if ARGV[1 + i] == 'concurrent' then
    counts[2 * i], counts[2 * i + 1] = redis.call('ZCOUNT', key, '(' .. now, '+inf'), 0
  else
    counts[2 * i] = tonumber(redis.call('GET', key .. ':' .. id) or '0')
    counts[2 * i + 1] = tonumber(redis.call('GET', key .. ':' .. (id - 1)) or '0')
  end
end
return counts`;

/** One hash tag keeps all limits on one node, as one script needs. */
const PREFIX = '{holdfast:limits}:';

/** The limits shared by the processes of a gateway. */
export class RedisCounters implements Counters {
  private readonly redis: Redis;

  constructor(redis: Redis) {
    this.redis = redis;
  }

  async admit(requestId: string, limits: readonly RateLimit[], options: AdmissionOptions): Promise<Admission> {
    const { leaseMs, priority, waits } = options;
    const keys = keysOf(requestId, limits);
    const request = [requestId, Math.ceil(leaseMs), priority, waits ? 1 : 0, NO_CLOCK_RETRY_MS, WAITER_TTL_MS];
    const args = limits.flatMap(({ kind, limit, cost }) => [kind, limit, cost]);
    const reply = await this.redis.eval(ADMIT, keys.length, ...keys, WINDOW_MS, ...request, ...args);
    const [index, wait = 0] = reply as [number, number?];
    const limit = limits[index - 1];
    if (!limit) return { admitted: true };
    return { admitted: false, limit, retryAfterMs: wait < 0 ? Number.POSITIVE_INFINITY : wait };
  }

  async release(requestId: string, limits: readonly RateLimit[], tokenDifference: number): Promise<void> {
    const keys = keysOf(requestId, limits);
    const args = [requestId, tokenDifference, ...limits.map(({ kind }) => kind)];
    await this.redis.eval(RELEASE, keys.length, ...keys, WINDOW_MS, ...args);
  }

  async standBy(requestId: string, limits: readonly RateLimit[]): Promise<void> {
    const freed = this.redis.multi().del(`${PREFIX}request:${requestId}`);
    for (const { kind, name } of limits) if (kind === 'concurrent') freed.zrem(PREFIX + name, requestId);
    await freed.exec();
  }

  async status(limits: readonly RateLimit[]): Promise<readonly LimitStatus[]> {
    const keys = limits.map(({ name }) => PREFIX + name);
    const kinds = limits.map(({ kind }) => kind);
    const reply = await this.redis.eval(STATUS, keys.length, ...keys, WINDOW_MS, ...kinds);
    const [elapsedMs = 0, ...counts] = reply as number[];
    return limits.map((limit, i) => {
      const [current = 0, previous = 0] = counts.slice(2 * i);
      if (limit.kind === 'concurrent') return slotStatus(limit, current);
      return windowStatus(limit, { current, previous }, elapsedMs);
    });
  }
}

const keysOf = (requestId: string, limits: readonly RateLimit[]): readonly string[] => [
  `${PREFIX}request:${requestId}`,
  ...limits.flatMap(({ name }) => [PREFIX + name, `${PREFIX}waiting:${name}`]),
];
