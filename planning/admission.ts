import type { PlatformSettings } from '../config/gateway-schema.ts';
import type { Caller } from '../domain/caller.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import { type LimitKind, limitName, type RateLimit } from '../domain/rate-limit.ts';
import type { Scope } from '../domain/scope.ts';
import type { ScopeLimits } from '../storage/postgres/policies.ts';
import type { CallPlan } from './plan.ts';

/** What a request takes from its limits and budgets. */
export function toAdmission(
  { enabled, requests_per_minute, tokens_per_minute, when_unavailable }: PlatformSettings['rate_limit'],
  caller: Caller,
  { policy: { limits }, targets, input, priceVersion }: CallPlan,
): AdmissionRequest {
  const self = limitedAs(caller);
  const own = limits.some(({ scope, ...l }) => scope === self?.type && l.id === self.id && !isUnlimited(l));
  const byDefault = {
    requestsPerMinute: requests_per_minute,
    tokensPerMinute: tokens_per_minute,
    concurrentRequests: null,
  };
  const all = self && enabled && !own ? [...limits, { ...byDefault, scope: self.type, id: self.id }] : limits;
  return {
    limits: all.flatMap(({ scope: type, id, requestsPerMinute, tokensPerMinute, concurrentRequests }): RateLimit[] => {
      const of = (kind: LimitKind, limit: number | null, cost: number): RateLimit[] =>
        limit === null ? [] : [{ name: limitName({ type, id } as Scope, kind), kind, limit, cost }];
      return [
        ...of('requests', requestsPerMinute, 1),
        ...of('tokens', tokensPerMinute, input.typicalTokens),
        ...of('concurrent', concurrentRequests, 1),
      ];
    }),
    estimatedTokens: input.typicalTokens,
    maxCostNanos: Math.max(...targets.map((target) => target.maxCostNanos)),
    priceVersion,
    ...(when_unavailable === 'closed' && { whenUnavailable: 'closed' }),
  };
}

/** Whom the default limits are for: the key, else the user, else the team. The master key has none. */
function limitedAs({ keyId, user, team }: Caller): Scope | undefined {
  if (keyId !== null) return { type: 'key', id: keyId };
  if (user !== null) return { type: 'user', id: user };
  return team === null ? undefined : { type: 'team', id: team };
}

/** A key whose limits were all taken away has a row of nulls. */
const isUnlimited = (limits: Omit<ScopeLimits, 'scope'>): boolean =>
  (limits.requestsPerMinute ?? limits.tokensPerMinute ?? limits.concurrentRequests) === null;
