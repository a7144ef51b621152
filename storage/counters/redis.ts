import type { Redis } from 'ioredis';
import type { RateLimit } from '../../domain/rate-limit.ts';
import { type Admission, type Counters, WINDOW_MS } from './counters.ts';

/**
 * `waitFor` of counters.ts for every limit, then all are taken or none. Time is Redis's, so that the clocks of gateway
 * processes do not matter. Returns {0}, or {index of the limit that said no, milliseconds to wait or -1 for never}.
 */
const ADMIT = `
if redis.call('EXISTS', KEYS[1]) == 1 then return { 0 } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])
local elapsed = (now % window) / window
local id = math.floor(now / window)
for i = 2, #KEYS do
  local limit, cost = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
  local current = tonumber(redis.call('GET', KEYS[i] .. ':' .. id) or '0')
  local previous = tonumber(redis.call('GET', KEYS[i] .. ':' .. (id - 1)) or '0')
  if cost > limit then return { i - 1, -1 } end
  if current + previous * (1 - elapsed) + cost > limit then
    local wait = 1 - elapsed + (1 - (limit - cost) / current)
    if current + cost <= limit then wait = 1 - (limit - current - cost) / previous - elapsed end
    return { i - 1, math.ceil(wait * window) }
  end
end
for i = 2, #KEYS do
  local key = KEYS[i] .. ':' .. id
  redis.call('INCRBY', key, ARGV[2 * i - 1])
  redis.call('PEXPIRE', key, 2 * window)
end
redis.call('SET', KEYS[1], 1, 'PX', window)
return { 0 }`;

const ADJUST = `
local time = redis.call('TIME')
local key = KEYS[1] .. ':' .. math.floor((time[1] * 1000 + math.floor(time[2] / 1000)) / ARGV[1])
local value = tonumber(redis.call('GET', key) or '0') + tonumber(ARGV[2])
redis.call('SET', key, math.max(0, value), 'PX', 2 * ARGV[1])`;

/** The limits shared by the processes of a gateway. One hash tag keeps them on one node, as one script needs. */
const PREFIX = '{holdfast:limits}:';

export class RedisCounters implements Counters {
  private readonly redis: Redis;

  constructor(redis: Redis) {
    this.redis = redis;
  }

  async admit(requestId: string, limits: readonly RateLimit[]): Promise<Admission> {
    const keys = [`${PREFIX}admitted:${requestId}`, ...limits.map(({ name }) => PREFIX + name)];
    const args = limits.flatMap(({ limit, cost }) => [limit, cost]);
    const reply = (await this.redis.eval(ADMIT, keys.length, ...keys, WINDOW_MS, ...args)) as [number, number?];
    const limit = limits[reply[0] - 1];
    if (!limit) return { admitted: true };
    const wait = reply[1] ?? 0;
    return { admitted: false, limit, retryAfterMs: wait < 0 ? Number.POSITIVE_INFINITY : wait };
  }

  async adjust(name: string, difference: number): Promise<void> {
    await this.redis.eval(ADJUST, 1, PREFIX + name, WINDOW_MS, difference);
  }
}
