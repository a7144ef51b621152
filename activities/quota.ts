import type { Logger } from 'pino';
import { HoldfastError, toHoldfastError } from '../domain/errors.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import type { RateLimit } from '../domain/rate-limit.ts';
import { RUN_EPOCH } from '../domain/stream-item.ts';
import type { Counters } from '../storage/counters/counters.ts';
import { budgetAlerts } from '../storage/postgres/budget-alerts.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Reservations } from '../storage/postgres/reservations.ts';
import { type Ending, settle } from '../storage/postgres/settlement.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';
import type { BudgetWebhook } from './budget-webhook.ts';
import { toFailure, toInfrastructureFailure } from './failures.ts';

export interface QuotaDeps {
  readonly db: Sql;
  readonly reservations: Reservations;
  readonly counters: Counters;
  readonly streams: StreamLog;
  /** undefined: budget alerts are logged only. */
  readonly budgetWebhook: BudgetWebhook | undefined;
  readonly logger: Logger;
}

export interface Settlement extends Ending {
  readonly limits: readonly RateLimit[];
  /** How far the tokens used are off what was admitted. */
  readonly tokenDifference: number;
}

/** Before each model call and after it. Local activities: a few milliseconds, no task queue in between. */
export function createQuotaActivities({ db, reservations, counters, streams, budgetWebhook, logger }: QuotaDeps) {
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
      const { limits, maxCostNanos, priceVersion } = admission;
      await admit(requestId, limits);
      const result = await reservations
        .reserve({ requestId, nanos: maxCostNanos, priceVersion })
        .catch((error: unknown) => {
          throw toInfrastructureFailure(toHoldfastError(error));
        });
      if (!result.reserved) {
        const { scope, period } = result.exceeded;
        throw toFailure(
          new HoldfastError(
            'policy_budget_exceeded',
            `This request could cost more than what is left of the ${period} budget of its ${scope}.`,
          ),
        );
      }
    },

    /**
     * Books what the request cost, frees the rest, closes its ledger row and tells a caller who still waits. Every
     * failure is retried: money is never left unsettled. Returns the budget alerts to deliver.
     */
    async settle(settlement: Settlement): Promise<readonly string[]> {
      const alerts = await settle(db, settlement);
      const { limits, tokenDifference } = settlement;
      const tokens = tokenDifference === 0 ? [] : limits.filter(({ kind }) => kind === 'tokens');
      await Promise.allSettled(tokens.map(({ name }) => counters.adjust(name, tokenDifference)));
      if (settlement.error) {
        const item = { type: 'failed', error: settlement.error } as const;
        await streams.append(settlement.requestId, RUN_EPOCH, [item]).catch((error: unknown) => {
          logger.warn({ err: error, run: settlement.requestId }, 'Stream log failed');
        });
      }
      for (const alert of await budgetAlerts(db, alerts)) {
        logger.warn(alert, `The ${alert.period} budget of the ${alert.scope.type} is ${alert.threshold} % spent`);
      }
      return budgetWebhook ? alerts : [];
    },
  };
}

function rateLimited({ kind, limit, cost }: RateLimit, retryAfterMs: number): HoldfastError {
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
