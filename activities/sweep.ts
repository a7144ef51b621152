import type { Logger } from 'pino';
import type { Files } from '../storage/postgres/files.ts';
import type { Idempotency } from '../storage/postgres/idempotency.ts';
import { removeOld } from '../storage/postgres/retention.ts';
import { settle } from '../storage/postgres/settlement.ts';
import {
  closeParts,
  type Drift,
  openRequests,
  removeSettledReservations,
  repairCounters,
} from '../storage/postgres/sweep.ts';
import { createRecordState, type RunStateDeps } from './run-states.ts';

/** What Temporal says about a workflow: under way, or ended, or never started. */
export type RunPresence = 'running' | 'ended' | 'unknown';

export interface SweepDeps extends RunStateDeps {
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
  /** What their webhooks are to be told. */
  readonly webhooks: readonly string[];
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

/** An operator wanted it so. */
const ENDED = {
  state: 'cancelled',
  error: { code: 'gateway_cancelled', message: 'The run was ended by an operator.' },
} as const;
/** The gateway's fault, so that the request may be made again under its `Idempotency-Key`. */
const NEVER_STARTED = {
  state: 'failed',
  error: { code: 'gateway_unavailable', message: 'The gateway stopped before it began with this. Send it again.' },
} as const;

/**
 * Frees what a crash or a terminated workflow left, finds counters that disagree with the ledger, and removes what is no
 * longer needed.
 */
export function createSweepActivities(deps: SweepDeps) {
  const recordState = createRecordState(deps);
  const { db, runs, idempotency, retentionDays, files, presenceOf, logger } = deps;

  /** A workflow that was terminated, or never started, leaves its run to us; its calls are settled by then. */
  const closeRuns = async (): Promise<Pick<SweepReport, 'ended' | 'webhooks'>> => {
    const ended: string[] = [];
    const webhooks: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await runs.open(MIN_AGE_SECONDS, PAGE, cursor);
      const presences = await Promise.all(page.map(presenceOf));
      // First: a run that has ended is not looked at again.
      await closeParts(
        db,
        page.filter((_, index) => presences[index] !== 'running'),
      );
      for (const [index, id] of page.entries()) {
        const presence = presences[index];
        if (presence === 'running') continue;
        const answered = (await runs.callState(id)) === 'completed';
        const ending = presence === 'unknown' ? NEVER_STARTED : ENDED;
        webhooks.push(...(await recordState(id, answered ? { state: 'completed' } : ending)));
        ended.push(id);
      }
      cursor = page.length === PAGE ? page.at(-1) : undefined;
    } while (cursor);
    return { ended, webhooks };
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
        // One after the other would take longer than a sweep may where many wait in the queue.
        const runIds = [...new Set(page.map(({ runId }) => runId))].filter((runId) => !running.has(runId));
        const presences = new Map(await Promise.all(runIds.map(async (id) => [id, await presenceOf(id)] as const)));
        for (const [runId, presence] of presences) if (presence === 'running') running.add(runId);
        for (const { id, runId, answered } of page) {
          if (running.has(runId)) continue;
          const unanswered = presences.get(runId) === 'unknown' ? NEVER_STARTED : ENDED;
          const ending = answered ? ({ state: 'completed' } as const) : unanswered;
          alerts.push(...(await settle(db, { requestId: id, ...ending })));
          logger.warn({ run: runId }, 'Settled a request that its workflow left open');
          settled.push(id);
        }
        cursor = page.length === PAGE ? page.at(-1)?.id : undefined;
      } while (cursor);

      const closed = await closeRuns();
      const drift = await repairCounters(db, COUNTERS_PER_SWEEP);
      for (const found of drift) logger.error(found, 'A spend counter disagreed with the ledger and was set right');
      const removed =
        (await removeSettledReservations(db, ROWS_PER_SWEEP)) +
        (await idempotency.removeExpired(ROWS_PER_SWEEP)) +
        (await removeOld(db, retentionDays, ROWS_PER_SWEEP));
      return { settled, alerts, ...closed, drift, removed, files: await files.removeExpired(FILES_PER_SWEEP) };
    },
  };
}
