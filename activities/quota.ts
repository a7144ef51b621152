import type { Logger } from 'pino';
import { HoldfastError, toHoldfastError } from '../domain/errors.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import type { RateLimit } from '../domain/rate-limit.ts';
import { RUN_EPOCH } from '../domain/stream-item.ts';
import { budgetAlerts } from '../storage/postgres/budget-alerts.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Reservations } from '../storage/postgres/reservations.ts';
import { type Ending, settle } from '../storage/postgres/settlement.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';
import { type AdmissionDeps, type AdmissionProgress, createAdmit } from './admission.ts';
import type { BudgetWebhook } from './budget-webhook.ts';
import { toFailure, toInfrastructureFailure } from './failures.ts';

export interface QuotaDeps extends AdmissionDeps {
  readonly db: Sql;
  readonly reservations: Reservations;
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
export function createQuotaActivities(deps: QuotaDeps) {
  const { db, reservations, counters, streams, budgetWebhook, logger } = deps;
  const admit = createAdmit(deps);

  return {
    /**
     * Takes the request from all limits and budgets or from none. Returns when to ask again if it has to wait for a
     * limit. Fails with `policy_rate_limited` or `policy_budget_exceeded`.
     */
    async reserve(
      requestId: string,
      admission: AdmissionRequest,
      progress: AdmissionProgress,
    ): Promise<{ readonly waitMs: number } | undefined> {
      const { maxCostNanos, priceVersion } = admission;
      const waitMs = await admit(requestId, admission, progress);
      if (waitMs !== undefined) return { waitMs };
      const result = await reservations
        .reserve({ requestId, nanos: maxCostNanos, priceVersion })
        .catch((error: unknown) => {
          throw toInfrastructureFailure(toHoldfastError(error));
        });
      if (result.reserved) return undefined;
      // A run may wait for hours until its budget is raised; its slots are for others meanwhile.
      await counters.standBy(requestId, admission.limits).catch((error: unknown) => {
        logger.warn({ err: error, run: requestId }, 'Slots could not be freed');
      });
      const { scope, period } = result.exceeded;
      throw toFailure(
        new HoldfastError(
          'policy_budget_exceeded',
          `This request could cost more than what is left of the ${period} budget of its ${scope}.`,
        ),
      );
    },

    /**
     * Books what the request cost, frees the rest and its slots, closes its ledger row and tells a caller who still
     * waits. Every failure is retried: money is never left unsettled. Returns the budget alerts to deliver.
     */
    async settle(settlement: Settlement): Promise<readonly string[]> {
      const alerts = await settle(db, settlement);
      const { limits, tokenDifference } = settlement;
      if (limits.length > 0) {
        // Slots are leased: one that cannot be released now comes free by itself.
        await counters.release(settlement.requestId, limits, tokenDifference).catch((error: unknown) => {
          logger.warn({ err: error, run: settlement.requestId }, 'Rate limits could not be corrected');
        });
      }
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
