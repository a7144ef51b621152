import type { Logger } from 'pino';
import type { Sql } from '../storage/postgres/database.ts';
import type { Files } from '../storage/postgres/files.ts';
import { settle } from '../storage/postgres/settlement.ts';
import { type Drift, openRequests, removeSettledReservations, repairCounters } from '../storage/postgres/sweep.ts';

/** What Temporal says about a workflow: under way, or ended, or never started. */
export type RunPresence = 'running' | 'ended' | 'unknown';

export interface SweepDeps {
  readonly db: Sql;
  readonly files: Files;
  readonly presenceOf: (runId: string) => Promise<RunPresence>;
  readonly logger: Logger;
}

export interface SweepReport {
  /** Requests settled because nobody else would. */
  readonly settled: readonly string[];
  /** Budget alerts that these settlements caused. */
  readonly alerts: readonly string[];
  /** Counters that were off, with what was added to them in nano-dollars. */
  readonly drift: readonly Drift[];
  /** Old reservations removed. */
  readonly removed: number;
  /** Expired files removed, and those that were left unfinished. */
  readonly files: number;
}

/** A start that got no answer is given up after 15 s; well after that a request without a workflow has none coming. */
const MIN_AGE_SECONDS = 60;
const PAGE = 200;
const COUNTERS_PER_SWEEP = 500;
/** More than can be made between two sweeps, so that the table stays as small as a day's requests. */
const RESERVATIONS_PER_SWEEP = 50_000;
const FILES_PER_SWEEP = 100;

/**
 * Frees what a crash or a terminated workflow left, finds counters that disagree with the ledger, and removes what is no
 * longer needed.
 */
export function createSweepActivities({ db, files, presenceOf, logger }: SweepDeps) {
  return {
    async sweep(): Promise<SweepReport> {
      const settled: string[] = [];
      const alerts: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await openRequests(db, MIN_AGE_SECONDS, PAGE, cursor);
        for (const { id, runId, answered } of page) {
          if ((await presenceOf(runId)) === 'running') continue;
          const error = { code: 'gateway_cancelled', message: 'The run ended without settling.' } as const;
          const ending = answered ? ({ state: 'completed' } as const) : ({ state: 'cancelled', error } as const);
          alerts.push(...(await settle(db, { requestId: id, ...ending })));
          logger.warn({ run: runId }, 'Settled a request that its workflow left open');
          settled.push(id);
        }
        cursor = page.length === PAGE ? page.at(-1)?.id : undefined;
      } while (cursor);

      const drift = await repairCounters(db, COUNTERS_PER_SWEEP);
      for (const found of drift) logger.error(found, 'A spend counter disagreed with the ledger and was set right');
      const removed = await removeSettledReservations(db, RESERVATIONS_PER_SWEEP);
      return { settled, alerts, drift, removed, files: await files.removeExpired(FILES_PER_SWEEP) };
    },
  };
}
