import type { Logger } from 'pino';
import type { Sql } from '../storage/postgres/database.ts';
import type { Files } from '../storage/postgres/files.ts';
import type { Idempotency } from '../storage/postgres/idempotency.ts';
import { removeOld } from '../storage/postgres/retention.ts';
import type { Runs } from '../storage/postgres/runs.ts';
import { settle } from '../storage/postgres/settlement.ts';
import { type Drift, openRequests, removeSettledReservations, repairCounters } from '../storage/postgres/sweep.ts';
import type { JournalledStreamLog } from '../storage/streams/journalled.ts';

/** What Temporal says about a workflow: under way, or ended, or never started. */
export type RunPresence = 'running' | 'ended' | 'unknown';

export interface SweepDeps {
  readonly db: Sql;
  readonly runs: Runs;
  readonly journal: JournalledStreamLog;
  readonly idempotency: Idempotency;
  /** How long bodies and runs are kept. */
  readonly retentionDays: number;
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
  /** Runs closed because their workflow is no more. */
  readonly ended: readonly string[];
  /** Rows removed whose time was over. */
  readonly removed: number;
  /** Expired files removed, and those that were left unfinished. */
  readonly files: number;
}

/** A start that got no answer is given up after 15 s; well after that a request without a workflow has none coming. */
const MIN_AGE_SECONDS = 60;
const PAGE = 200;
const COUNTERS_PER_SWEEP = 500;
/** Of each kind removed: more than can be made between two sweeps, so that tables stop growing. */
const ROWS_PER_SWEEP = 50_000;
const FILES_PER_SWEEP = 100;

/**
 * Frees what a crash or a terminated workflow left, finds counters that disagree with the ledger, and removes what is no
 * longer needed.
 */
export function createSweepActivities(deps: SweepDeps) {
  const { db, runs, journal, idempotency, retentionDays, files, presenceOf, logger } = deps;

  /** A workflow that was terminated, or never started, leaves its run to us; its calls are settled by then. */
  const closeRuns = async (): Promise<readonly string[]> => {
    const ended: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await runs.open(MIN_AGE_SECONDS, PAGE, cursor);
      for (const id of page) {
        if ((await presenceOf(id)) === 'running') continue;
        const error = { code: 'gateway_cancelled', message: 'The run was ended by an operator.' } as const;
        const answered = (await runs.callState(id)) === 'completed';
        await runs.transition(id, answered ? { state: 'completed' } : { state: 'cancelled', error });
        journal.announce(id, true);
        ended.push(id);
      }
      cursor = page.length === PAGE ? page.at(-1) : undefined;
    } while (cursor);
    return ended;
  };

  return {
    async sweep(): Promise<SweepReport> {
      const settled: string[] = [];
      const alerts: string[] = [];
      // The open requests of a batch are many and their workflow is one.
      const running = new Set<string>();
      let cursor: string | undefined;
      do {
        const page = await openRequests(db, MIN_AGE_SECONDS, PAGE, cursor);
        for (const { id, runId, answered } of page) {
          if (running.has(runId)) continue;
          if ((await presenceOf(runId)) === 'running') {
            running.add(runId);
            continue;
          }
          const error = { code: 'gateway_cancelled', message: 'The run ended without settling.' } as const;
          const ending = answered ? ({ state: 'completed' } as const) : ({ state: 'cancelled', error } as const);
          alerts.push(...(await settle(db, { requestId: id, ...ending })));
          logger.warn({ run: runId }, 'Settled a request that its workflow left open');
          settled.push(id);
        }
        cursor = page.length === PAGE ? page.at(-1)?.id : undefined;
      } while (cursor);

      const ended = await closeRuns();
      const drift = await repairCounters(db, COUNTERS_PER_SWEEP);
      for (const found of drift) logger.error(found, 'A spend counter disagreed with the ledger and was set right');
      const removed =
        (await removeSettledReservations(db, ROWS_PER_SWEEP)) +
        (await idempotency.removeExpired(ROWS_PER_SWEEP)) +
        (await removeOld(db, retentionDays, ROWS_PER_SWEEP));
      return { settled, alerts, ended, drift, removed, files: await files.removeExpired(FILES_PER_SWEEP) };
    },
  };
}
