import type { Redis } from 'ioredis';
import type { LimitReport } from '../../domain/provider-limits.ts';
import { BUCKET_KINDS, type BucketRequest, type Buckets, LEARNED_TTL_MS, LONE_SHARE, type Taken } from './buckets.ts';
import { WINDOW_MS } from './counters.ts';
import { CLOCK, WAIT_FOR } from './lua.ts';

/**
 * A bucket is a hash of what was learned, a sorted set of the tenants by the window they last asked in, and for each
 * kind and window a hash of what each tenant took and all of them (`*`).
 */
const OPEN = `${CLOCK}
local bucket = KEYS[1]
local known = {}
local fields = redis.call('HGETALL', bucket)
for i = 1, #fields, 2 do known[fields[i]] = tonumber(fields[i + 1]) end
local function key_of(kind, window_id) return bucket .. ':' .. kind .. ':' .. window_id end
local function taken(kind, who)
  return tonumber(redis.call('HGET', key_of(kind, id), who) or '0'),
    tonumber(redis.call('HGET', key_of(kind, id - 1), who) or '0')
end
local function free_of(kind)
  return known[kind .. ':left'] + known[kind .. ':rate'] * (now - known[kind .. ':at'])
end
for _, kind in ipairs({ 'requests', 'tokens' }) do
  if known[kind .. ':left'] and free_of(kind) >= known[kind .. ':limit'] then
    redis.call('HDEL', bucket, kind .. ':left')
    known[kind .. ':left'] = nil
  end
end
`;

/** `MemoryBuckets.take`. ARGV: window, tenant, lone share; for requests and tokens the configured limit or 0, and cost. */
const TAKE = `${OPEN}${WAIT_FOR}
local tenant, lone = ARGV[2], tonumber(ARGV[3])
redis.call('ZADD', bucket .. ':tenants', id, tenant)
redis.call('ZREMRANGEBYSCORE', bucket .. ':tenants', '-inf', id - 2)
redis.call('PEXPIRE', bucket .. ':tenants', 2 * window)
local tenants = redis.call('ZCARD', bucket .. ':tenants')
local longest = math.max(0, (known.paused_until or 0) - now)
local limited = longest > 0 and 1 or 0
local costs = {}
for i, kind in ipairs({ 'requests', 'tokens' }) do
  local limit, cost = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local learned = known[kind .. ':limit']
  if learned and (limit == 0 or learned < limit) then limit = learned end
  if limit > 0 then
    limited = 1
    cost = math.min(cost, limit)
    costs[kind] = cost
    local current, previous = taken(kind, '*')
    local wait = wait_for(limit, cost, current, previous)
    local own_current, own_previous = taken(kind, tenant)
    local own = own_current + own_previous * (1 - elapsed)
    if current + previous * (1 - elapsed) + cost > limit / 2 and own > 0 then
      local share = tenants > 1 and limit / tenants or limit * lone
      local own_wait
      if cost <= share then own_wait = wait_for(share, cost, own_current, own_previous)
      elseif own_current > 0 then own_wait = (2 - elapsed) * window
      else own_wait = (1 - elapsed) * window end
      wait = math.max(wait, own_wait)
    end
    if known[kind .. ':left'] then wait = math.max(wait, (cost - free_of(kind)) / known[kind .. ':rate']) end
    longest = math.max(longest, wait)
  end
end
if longest > 0 then return { math.ceil(longest), limited } end
for kind, cost in pairs(costs) do
  local key = key_of(kind, id)
  redis.call('HINCRBY', key, '*', cost)
  redis.call('HINCRBY', key, tenant, cost)
  redis.call('PEXPIRE', key, 2 * window)
  if known[kind .. ':left'] then redis.call('HINCRBYFLOAT', bucket, kind .. ':left', -cost) end
end
return { 0, limited }`;

/** ARGV: window, tenant, difference. */
const CORRECT = `${CLOCK}
local key = KEYS[1] .. ':tokens:' .. id
local difference = math.max(tonumber(ARGV[3]), -tonumber(redis.call('HGET', key, ARGV[2]) or '0'))
redis.call('HINCRBY', key, ARGV[2], difference)
redis.call('HINCRBY', key, '*', difference)
redis.call('PEXPIRE', key, 2 * window)`;

/** ARGV: window, time to live, pause; for requests and tokens the limit, what is left and the reset, each or -1. */
const LEARN = `${OPEN}
local pause = tonumber(ARGV[3])
if pause >= 0 then redis.call('HSET', bucket, 'paused_until', math.max(known.paused_until or 0, now + pause)) end
for i, kind in ipairs({ 'requests', 'tokens' }) do
  local limit, remaining, reset = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
  if limit > 0 then
    redis.call('HSET', bucket, kind .. ':limit', limit)
    local believed
    if known[kind .. ':left'] then
      believed = free_of(kind)
    else
      local current, previous = taken(kind, '*')
      believed = limit - (current + previous * (1 - elapsed))
    end
    if remaining >= 0 and remaining < math.min(limit, believed) then
      if reset <= 0 then reset = window end
      local rate = string.format('%.17g', (limit - remaining) / reset)
      redis.call('HSET', bucket, kind .. ':left', remaining, kind .. ':at', now, kind .. ':rate', rate)
    end
  end
end
redis.call('PEXPIRE', bucket, ARGV[2])`;

/** The hash tag keeps what belongs to one bucket on one node, as one script needs. */
const keyOf = (bucket: string) => `{holdfast:bucket:${bucket}}`;

/** Providers' limits shared by the processes of a gateway. */
export class RedisBuckets implements Buckets {
  private readonly redis: Redis;

  constructor(redis: Redis) {
    this.redis = redis;
  }

  async take(bucket: string, { tenant, tokens, limits }: BucketRequest): Promise<Taken> {
    const args = [tenant, LONE_SHARE, limits.requests ?? 0, 1, limits.tokens ?? 0, tokens];
    const [waitMs, limited] = (await this.redis.eval(TAKE, 1, keyOf(bucket), WINDOW_MS, ...args)) as [number, number];
    return { waitMs, limited: limited === 1 };
  }

  async correct(bucket: string, tenant: string, tokenDifference: number): Promise<void> {
    await this.redis.eval(CORRECT, 1, keyOf(bucket), WINDOW_MS, tenant, tokenDifference);
  }

  async learn(bucket: string, report: LimitReport): Promise<void> {
    const reported = BUCKET_KINDS.flatMap((kind) => {
      const { limit = -1, remaining = -1, resetMs = -1 } = report[kind] ?? {};
      return [limit, remaining, resetMs];
    });
    const args = [LEARNED_TTL_MS, report.pauseMs ?? -1, ...reported];
    await this.redis.eval(LEARN, 1, keyOf(bucket), WINDOW_MS, ...args);
  }
}
