import { setTimeout as sleep } from 'node:timers/promises';
import type { ModelResult } from '../../domain/chat.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { endsStream, type StreamItem, toMetadata } from '../../domain/stream-item.ts';
import type { StoredAnswer } from '../../storage/postgres/requests.ts';
import type { StreamEntry } from '../../storage/streams/stream-log.ts';
import { Subscription } from '../../storage/streams/subscription.ts';
import type { ApiDeps } from '../context.ts';
import type { AcceptedRun } from './accept.ts';

/** Milliseconds of waiting after which Temporal is asked as well: an operator may have ended the run. */
const ASK_TEMPORAL_AFTER_MS = 10_000;
/** Milliseconds beyond the deadline within which the run itself reports that it is over. */
const DEADLINE_GRACE_MS = 10_000;

/** Yielded while nothing happens, so that a stream's connection can be kept alive. */
export const IDLE = 'idle';

const TICK_MS = 1_000;
/** Milliseconds the log gets to bring what Temporal has told already. */
const LAST_ENTRY_MS = 200;

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** Milliseconds without an entry after which `IDLE` is yielded. */
  readonly idleMs?: number;
}

/**
 * A run as its caller sees it: what the stream log brings, and the journal's word when the log is lost or silent. Ends
 * after `completed` or `failed`. Throws `gateway_deadline_exceeded` when neither came in time.
 */
export function follow(
  deps: ApiDeps,
  run: AcceptedRun,
  { signal, idleMs = Number.POSITIVE_INFINITY }: FollowOptions,
): AsyncIterable<StreamEntry | typeof IDLE> {
  if (run.outcome) return only({ seq: 0, item: run.outcome });
  const stop = new AbortController();
  const askAt = Date.now() + ASK_TEMPORAL_AFTER_MS;
  let lastSign = Date.now();
  let nextSeq = 0;
  let logLost = false;
  let asking = false;

  const events = new Subscription<StreamEntry | typeof IDLE>(signal, () => {
    clearInterval(ticker);
    stop.abort();
  });
  const emit = (entry: StreamEntry) => {
    lastSign = Date.now();
    nextSeq = entry.seq + 1;
    events.push(entry);
    if (endsStream(entry.item)) events.finish();
    // Somebody else ended the run while this process makes its call.
    if (entry.item.type === 'failed') deps.calls.abort(run.id);
  };
  const ask = async () => {
    asking = true;
    try {
      const item = await outcomeOf(deps, run, stop.signal);
      emit({ seq: nextSeq, item });
    } catch (error) {
      if (!stop.signal.aborted)
        deps.logger.warn({ err: error, run: run.id }, 'Cannot ask Temporal for a run; asking again');
      asking = false;
    }
  };
  const ticker = setInterval(() => {
    const now = Date.now();
    if (now > run.deadlineAt + DEADLINE_GRACE_MS) events.fail(deadlineExceeded());
    else if (!asking && (logLost || now > askAt)) void ask();
    if (now - lastSign >= idleMs) {
      lastSign = now;
      events.push(IDLE);
    }
  }, TICK_MS);
  const pump = async () => {
    try {
      for await (const entry of deps.streams.subscribe(run.id, 0, stop.signal)) emit(entry);
    } catch (error) {
      logLost = true;
      deps.logger.warn({ err: error, run: run.id }, 'Stream log lost; waiting for the run itself');
    }
  };
  void pump();
  return events;
}

async function* only(entry: StreamEntry): AsyncGenerator<StreamEntry> {
  yield entry;
}

/** The end of a run, by Temporal and the journal. */
async function outcomeOf(deps: ApiDeps, run: AcceptedRun, signal: AbortSignal): Promise<StreamItem> {
  const error = await deps.runs.outcome(run.id, signal);
  // The log's own last entry is on its way and goes first.
  await sleep(LAST_ENTRY_MS);
  return error ? { type: 'failed', error } : completedItem(deps, run.id);
}

/** The answer of a completed request, from the journal. */
export async function completedItem(deps: ApiDeps, id: string): Promise<Extract<StreamItem, { type: 'completed' }>> {
  const answer = await deps.requests.answer(id);
  if (!answer) throw new HoldfastError('gateway_internal', 'The stored answer is missing.');
  return loadAnswer(deps, answer);
}

export async function loadAnswer(
  deps: ApiDeps,
  answer: StoredAnswer,
): Promise<Extract<StreamItem, { type: 'completed' }>> {
  const result = await deps.bodies.get<ModelResult>(answer.responseRef);
  if (!result) throw new HoldfastError('caller_not_found', 'The answer is not kept any more.');
  const region = deps.providers.get(answer.provider)?.region;
  return { type: 'completed', result, metadata: toMetadata({ ...answer, region }) };
}

const deadlineExceeded = () =>
  new HoldfastError('gateway_deadline_exceeded', 'The request did not finish before its deadline.');
