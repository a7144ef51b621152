/**
 * Every script's beginning. Time is Redis's, so that the clocks of gateway processes do not matter. `elapsed` is the
 * part of the running window `id` that is over.
 */
export const CLOCK = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])
local elapsed = (now % window) / window
local id = math.floor(now / window)
`;

/** `waitFor` of counters.ts for a cost within the limit. */
export const WAIT_FOR = `
local function wait_for(limit, cost, current, previous)
  if current + previous * (1 - elapsed) + cost <= limit then return 0 end
  if current + cost <= limit then return (1 - (limit - current - cost) / previous - elapsed) * window end
  return (1 - elapsed + (1 - (limit - cost) / current)) * window
end
`;
