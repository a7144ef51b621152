import type { Logger } from 'pino';
import type { AdmissionProgress } from '../calls/admission.ts';
import { CallFailed } from '../calls/call-failed.ts';
import type { Quota, Release } from '../calls/quota.ts';
import { toHoldfastError } from '../domain/errors.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import { RUN_EPOCH } from '../domain/stream-item.ts';
import type { Sql } from '../storage/postgres/database.ts';
import { type Ending, settle } from '../storage/postgres/settlement.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';
import { toFailure, toInfrastructureFailure } from './failures.ts';

export interface QuotaActivityDeps {
  readonly db: Sql;
  readonly quota: Quota;
  readonly streams: StreamLog;
  readonly logger: Logger;
}

export interface Settlement extends Ending, Release {}

/** Before each model call and after it. Local activities: a few milliseconds, no task queue in between. */
export function createQuotaActivities({ db, quota, streams, logger }: QuotaActivityDeps) {
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
      try {
        const waitMs = await quota.admit(requestId, admission, progress);
        if (waitMs !== undefined) return { waitMs };
        await quota.reserve(requestId, admission);
        return undefined;
      } catch (error) {
        throw error instanceof CallFailed ? toFailure(error.error) : toInfrastructureFailure(toHoldfastError(error));
      }
    },

    /**
     * Books what the request cost, frees the rest and its slots, closes its ledger row and tells a caller who still
     * waits. Every failure is retried: money is never left unsettled. Returns the budget alerts to deliver.
     */
    async settle(settlement: Settlement): Promise<readonly string[]> {
      const alerts = await settle(db, settlement);
      if (settlement.error) {
        const item = { type: 'failed', error: settlement.error } as const;
        await streams.append(settlement.requestId, RUN_EPOCH, [item]).catch((error: unknown) => {
          logger.warn({ err: error, run: settlement.requestId }, 'Stream log failed');
        });
      }
      return quota.settled(settlement, alerts);
    },
  };
}
