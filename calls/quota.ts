import type { Logger } from 'pino';
import { HoldfastError } from '../domain/errors.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import type { RateLimit } from '../domain/rate-limit.ts';
import type { Counters } from '../storage/counters/counters.ts';
import { budgetAlerts } from '../storage/postgres/budget-alerts.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { ExceededBudget, Reservations } from '../storage/postgres/reservations.ts';
import { type AdmissionProgress, createAdmit } from './admission.ts';
import { CallFailed } from './call-failed.ts';

export interface QuotaDeps {
  readonly db: Sql;
  readonly counters: Counters;
  readonly reservations: Reservations;
  /** Whether anybody is told of budget alerts; otherwise they are logged only. */
  readonly tellsOfBudgets: boolean;
  readonly logger: Logger;
}

export interface Release {
  readonly requestId: string;
  readonly limits: readonly RateLimit[];
  /** How far the tokens used are off what was admitted. */
  readonly tokenDifference: number;
}

/** What requests take from limits and budgets before they are called for, and give back after. */
export class Quota {
  /** Takes a request from its rate limits: see `createAdmit`. */
  readonly admit: (
    requestId: string,
    admission: AdmissionRequest,
    at: AdmissionProgress,
  ) => Promise<number | undefined>;
  private readonly deps: QuotaDeps;

  constructor(deps: QuotaDeps) {
    this.deps = deps;
    this.admit = createAdmit(deps);
  }

  /** Sets aside what one call can cost. Throws `CallFailed` with `policy_budget_exceeded`; the request's slots are free then. */
  async reserve(requestId: string, { limits, maxCostNanos, priceVersion }: AdmissionRequest): Promise<void> {
    const { counters, reservations, logger } = this.deps;
    const result = await reservations.reserve({ requestId, nanos: maxCostNanos, priceVersion });
    if (result.reserved) return;
    // A run may wait for hours until its budget is raised; its slots are for others meanwhile.
    await counters.standBy(requestId, limits).catch((error: unknown) => {
      logger.warn({ err: error, run: requestId }, 'Slots could not be freed');
    });
    throw new CallFailed(budgetExceeded(result.exceeded));
  }

  /**
   * Gives back what a settled request took of its limits and did not use.
   * @param alerts Of budgets, that its settlement caused.
   * @returns Those to deliver.
   */
  async settled(
    { requestId, limits, tokenDifference }: Release,
    alerts: readonly string[],
  ): Promise<readonly string[]> {
    const { db, counters, tellsOfBudgets, logger } = this.deps;
    if (limits.length > 0) {
      // Slots are leased: one that cannot be released now comes free by itself.
      await counters.release(requestId, limits, tokenDifference).catch((error: unknown) => {
        logger.warn({ err: error, run: requestId }, 'Rate limits could not be corrected');
      });
    }
    for (const alert of await budgetAlerts(db, alerts)) {
      logger.warn(alert, `The ${alert.period} budget of the ${alert.scope.type} is ${alert.threshold} % spent`);
    }
    return tellsOfBudgets ? alerts : [];
  }
}

export const budgetExceeded = ({ scope, period }: ExceededBudget): HoldfastError =>
  new HoldfastError(
    'policy_budget_exceeded',
    `This request could cost more than what is left of the ${period} budget of its ${scope}.`,
  );
