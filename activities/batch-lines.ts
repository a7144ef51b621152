import type { LineEnd, PreparedLine } from '../domain/batch.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { NanoDollars } from '../domain/money.ts';
import type { LineRange } from '../storage/postgres/batch-lines.ts';
import type { Batches } from '../storage/postgres/batches.ts';
import type { Sql } from '../storage/postgres/database.ts';
import { settle } from '../storage/postgres/settlement.ts';
import { createPrepare, type PrepareDeps } from './prepare-lines.ts';

export interface BatchLineDeps extends PrepareDeps {
  readonly db: Sql;
  readonly batches: Batches;
}

export interface PreparedLines {
  readonly lines: readonly PreparedLine[];
  /** Where to go on; undefined behind the last line. */
  readonly after?: number;
  /** What the lines that have ended cost. */
  readonly spentNanos: NanoDollars;
  /** Somebody asked for the end of the batch: the workflow may have been told when it continued as a new one. */
  readonly cancelling?: boolean;
}

/** Requests settled before the next ones are asked for. */
const SETTLED_AT_ONCE = 200;

/** What happens to the lines of batches before and after their calls. */
export function createBatchLineActivities(deps: BatchLineDeps) {
  const { db, batches, batchLines } = deps;
  const prepare = createPrepare(deps);

  return {
    /** Plans the calls of the next lines that have no end and stores them as requests. A line that cannot be called fails. */
    async prepareLines(batchId: string, range: LineRange): Promise<PreparedLines> {
      const batch = await batches.find(batchId, undefined);
      if (!batch) throw new HoldfastError('gateway_internal', `Batch '${batchId}' is not there.`);
      const lines = await batchLines.open(batchId, range);
      const prepared = await prepare(batch, lines);
      const last = lines.length === range.limit ? lines.at(-1)?.n : undefined;
      return {
        lines: prepared.map(({ n, call }) => ({ n, call })),
        spentNanos: batch.costNanos,
        ...(last !== undefined && { after: last }),
        ...(batch.cancellingAt && { cancelling: true }),
      };
    },

    /** Ends lines. Returns what all ended lines of the batch cost. */
    async finishLines(batchId: string, ends: readonly LineEnd[]): Promise<NanoDollars> {
      return batchLines.finish(batchId, ends);
    },

    /** Ends all lines that nobody will call any more. Returns the budget alerts to deliver. */
    async closeLines(batchId: string, state: 'cancelled' | 'expired'): Promise<readonly string[]> {
      const code = state === 'cancelled' ? 'gateway_cancelled' : 'gateway_deadline_exceeded';
      const error = { code, message: 'The batch ended before this line was called.' } as const;
      const ending = { state: state === 'cancelled' ? 'cancelled' : 'failed', error } as const;
      const alerts: string[] = [];
      await batches.mark(batchId, state === 'cancelled' ? 'cancelling_at' : 'expired_at');
      for (;;) {
        const open = await batchLines.unsettled(batchId, SETTLED_AT_ONCE);
        if (open.length === 0) break;
        for (const requestId of open) alerts.push(...(await settle(db, { requestId, ...ending })));
      }
      await batchLines.close(batchId, state);
      return alerts;
    },
  };
}
