import type { Logger } from 'pino';
import { HoldfastError, toHoldfastError } from '../domain/errors.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import { RUN_EPOCH } from '../domain/stream-item.ts';
import type { Counters, RateLimit } from '../storage/counters/counters.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Reservations } from '../storage/postgres/reservations.ts';
import { type Ending, settle } from '../storage/postgres/settlement.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';
import { toFailure, toInfrastructureFailure } from './failures.ts';

export interface QuotaDeps {
  readonly db: Sql;
  readonly reservations: Reservations;
  readonly counters: Counters;
  readonly streams: StreamLog;
  readonly logger: Logger;
}

export interface Settlement extends Ending {
  readonly keyId: string | null;
  /** How far the tokens used are off what was admitted. */
  readonly tokenDifference: number;
}

/** Before each model call and after it. Local activities: a few milliseconds, no task queue in between. */
export function createQuotaActivities({ db, reservations, counters, streams, logger }: QuotaDeps) {
  /** Rate limits are a courtesy to the providers; without Redis they are off and requests go on. */
  const admit = async (requestId: string, limits: readonly RateLimit[]) => {
    if (limits.length === 0) return;
    const admission = await counters.admit(requestId, limits).catch((error: unknown) => {
      logger.warn({ err: error, run: requestId }, 'Rate limits cannot be checked');
      return { admitted: true } as const;
    });
    if (!admission.admitted) throw toFailure(rateLimited(admission.limit, admission.retryAfterMs));
  };

  return {
    /** Takes the request from all limits or from none. Fails with `policy_rate_limited` or `policy_budget_exceeded`. */
    async reserve(requestId: string, admission: AdmissionRequest): Promise<void> {
      const { keyId, maxCostNanos, priceVersion } = admission;
      if (keyId === null) return;
      await admit(requestId, limitsOf(keyId, admission));
      const reserved = await reservations
        .reserve({ requestId, keyId, nanos: maxCostNanos, priceVersion })
        .catch((error: unknown) => {
          throw toInfrastructureFailure(toHoldfastError(error));
        });
      if (reserved === 'exceeded') {
        throw toFailure(
          new HoldfastError(
            'policy_budget_exceeded',
            'This request could cost more than what is left of the key’s monthly cost cap.',
          ),
        );
      }
    },

    /**
     * Books what the request cost, frees the rest, closes its ledger row and tells a caller who still waits. Every
     * failure is retried: money is never left unsettled.
     */
    async settle(settlement: Settlement): Promise<void> {
      await settle(db, settlement);
      if (settlement.keyId !== null && settlement.tokenDifference !== 0) {
        await counters.adjust(tokensOf(settlement.keyId), settlement.tokenDifference).catch(() => {});
      }
      if (settlement.error) {
        const item = { type: 'failed', error: settlement.error } as const;
        await streams.append(settlement.requestId, RUN_EPOCH, [item]).catch((error: unknown) => {
          logger.warn({ err: error, run: settlement.requestId }, 'Stream log failed');
        });
      }
    },
  };
}

const requestsOf = (keyId: string) => `key:${keyId}:requests`;
const tokensOf = (keyId: string) => `key:${keyId}:tokens`;

function limitsOf(keyId: string, admission: AdmissionRequest): RateLimit[] {
  const { requestsPerMinute, tokensPerMinute, estimatedTokens } = admission;
  const limits: RateLimit[] = [];
  if (requestsPerMinute !== null) limits.push({ name: requestsOf(keyId), limit: requestsPerMinute, cost: 1 });
  if (tokensPerMinute !== null) limits.push({ name: tokensOf(keyId), limit: tokensPerMinute, cost: estimatedTokens });
  return limits;
}

function rateLimited({ name, limit, cost }: RateLimit, retryAfterMs: number): HoldfastError {
  const kind = name.endsWith(':tokens') ? 'tokens' : 'requests';
  if (Number.isFinite(retryAfterMs)) {
    return new HoldfastError('policy_rate_limited', `Rate limit reached: ${limit} ${kind} per minute.`, {
      retryAfterMs,
    });
  }
  return new HoldfastError(
    'policy_rate_limited',
    `The request needs about ${cost} tokens, more than the limit of ${limit} tokens per minute.`,
  );
}
