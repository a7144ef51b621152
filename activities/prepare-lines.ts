import { type LineEnd, lineRequestId } from '../domain/batch.ts';
import { BATCH_ENDPOINTS, type BatchEndpointName } from '../domain/batch-endpoints.ts';
import { readLine } from '../domain/batch-line.ts';
import type { Caller } from '../domain/caller.ts';
import { faultOf, HoldfastError, toHoldfastError } from '../domain/errors.ts';
import { type PreparationDeps, type PreparedCall, prepareCall } from '../planning/prepare.ts';
import type { BatchLines, NewLine } from '../storage/postgres/batch-lines.ts';
import type { Batch } from '../storage/postgres/batches.ts';
import type { Files } from '../storage/postgres/files.ts';
import type { Requests } from '../storage/postgres/requests.ts';
import { textsOf } from './line-texts.ts';

export interface PrepareDeps extends PreparationDeps {
  readonly batchLines: BatchLines;
  readonly files: Files;
  readonly requests: Requests;
  readonly maxLineBytes: number;
}

export interface PreparedLineCall extends PreparedCall {
  readonly n: number;
}

/** Plans the calls of lines and stores them as requests. A line that cannot be called fails. */
export function createPrepare(deps: PrepareDeps) {
  const { bodies, batchLines, requests } = deps;

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
  ): Promise<PreparedLineCall | { readonly end: LineEnd }> {
    try {
      return { n, ...(await prepareLine(batch, caller, n, text)) };
    } catch (thrown) {
      const error = toHoldfastError(thrown);
      if (faultOf(error.code) === 'gateway') throw thrown;
      return { end: { n, state: 'failed', error: error.info } };
    }
  }

  return async (batch: Batch, lines: readonly NewLine[]): Promise<readonly PreparedLineCall[]> => {
    const input = await bodies.get<{ readonly caller: Caller }>(batch.inputRef);
    if (!input) throw new HoldfastError('gateway_internal', `What batch '${batch.id}' was asked to do is not there.`);
    const texts = await textsOf(deps, batch.inputFileId, lines);
    const tried = await Promise.all(lines.map((line) => tryPrepare(batch, input.caller, line, texts.get(line.n))));
    const prepared = tried.flatMap((one) => ('end' in one ? [] : [one]));
    const ends = tried.flatMap((one) => ('end' in one ? [one.end] : []));
    await requests.insertMissing(prepared.map(({ row }) => row));
    if (ends.length > 0) await batchLines.finish(batch.id, ends);
    return prepared;
  };
}
