import { type LineEnd, lineRequestId, type PreparedLine } from '../domain/batch.ts';
import { BATCH_ENDPOINTS, type BatchEndpointName } from '../domain/batch-endpoints.ts';
import { readLine } from '../domain/batch-line.ts';
import type { Caller } from '../domain/caller.ts';
import { faultOf, HoldfastError, toHoldfastError } from '../domain/errors.ts';
import type { NanoDollars } from '../domain/money.ts';
import { type PreparationDeps, type PreparedCall, prepareCall } from '../planning/prepare.ts';
import type { BatchLines, LineRange, NewLine } from '../storage/postgres/batch-lines.ts';
import type { Batch, Batches } from '../storage/postgres/batches.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Files } from '../storage/postgres/files.ts';
import type { Requests } from '../storage/postgres/requests.ts';
import { settle } from '../storage/postgres/settlement.ts';
import { textsOf } from './line-texts.ts';

export interface BatchLineDeps extends PreparationDeps {
  readonly db: Sql;
  readonly batches: Batches;
  readonly batchLines: BatchLines;
  readonly files: Files;
  readonly requests: Requests;
  readonly maxLineBytes: number;
}

export interface PreparedLines {
  readonly lines: readonly PreparedLine[];
  /** Where to go on; undefined behind the last line. */
  readonly after?: number;
  /** Somebody asked for the end of the batch: the workflow may have been told when it continued as a new one. */
  readonly cancelling?: boolean;
}

/** Requests settled before the next ones are asked for. */
const SETTLED_AT_ONCE = 200;

/** What happens to the lines of batches before and after their calls. */
export function createBatchLineActivities(deps: BatchLineDeps) {
  const { db, batches, batchLines, requests } = deps;

  async function prepareLine(batch: Batch, caller: Caller, n: number, text: string | undefined): Promise<PreparedCall> {
    if (text === undefined) throw new HoldfastError('caller_not_found', 'The input file is not there any more.');
    const line = readLine(text, n, batch.endpoint);
    if ('problem' in line) throw new HoldfastError('caller_invalid_request', line.problem.message);
    const endpoint = BATCH_ENDPOINTS[batch.endpoint as BatchEndpointName];
    const { metadata, ...asked } = endpoint.parse(line.body);
    const id = lineRequestId(batch.id, n);
    const deadlineAt = batch.deadlineAt.getTime();
    return prepareCall(deps, {
      ...asked,
      id,
      runId: batch.id,
      requestId: id,
      caller,
      surface: endpoint.surface,
      stream: false,
      resumable: true,
      background: true,
      metadata: { ...batch.metadata, ...metadata },
      deadlineAt,
      maxCostNanos: batch.maxCostNanos ?? undefined,
      // Nobody waits, so it waits for its limits as long as it may, and lets those go first for whom somebody does.
      terms: { maxWaitMs: Math.max(0, deadlineAt - Date.now()), priority: 'batch' },
    });
  }

  async function tryPrepare(
    batch: Batch,
    caller: Caller,
    { n }: NewLine,
    text: string | undefined,
  ): Promise<(PreparedCall & { readonly n: number }) | { readonly end: LineEnd }> {
    try {
      return { n, ...(await prepareLine(batch, caller, n, text)) };
    } catch (thrown) {
      const error = toHoldfastError(thrown);
      if (faultOf(error.code) === 'gateway') throw thrown;
      return { end: { n, state: 'failed', error: error.info } };
    }
  }

  return {
    /** Plans the calls of the next lines that have no end and stores them as requests. A line that cannot be called fails. */
    async prepareLines(batchId: string, range: LineRange): Promise<PreparedLines> {
      const batch = await batches.find(batchId, undefined);
      const input = batch && (await deps.bodies.get<{ readonly caller: Caller }>(batch.inputRef));
      if (!batch || !input) throw new HoldfastError('gateway_internal', `Batch '${batchId}' is not there.`);
      const lines = await batchLines.open(batchId, range);
      const texts = await textsOf(deps, batch.inputFileId, lines);
      const tried = await Promise.all(lines.map((line) => tryPrepare(batch, input.caller, line, texts.get(line.n))));
      const prepared = tried.flatMap((one) => ('end' in one ? [] : [one]));
      const ends = tried.flatMap((one) => ('end' in one ? [one.end] : []));
      await requests.insertMissing(prepared.map(({ row }) => row));
      if (ends.length > 0) await batchLines.finish(batchId, ends);
      const last = lines.length === range.limit ? lines.at(-1)?.n : undefined;
      return {
        lines: prepared.map(({ n, call }) => ({ n, call })),
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
