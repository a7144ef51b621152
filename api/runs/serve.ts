import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ModelResult } from '../../domain/chat.ts';
import { toEnvelope } from '../../domain/error-envelope.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { formatDollars, fromDollars } from '../../domain/money.ts';
import { ChunkRenderer } from '../../domain/openai-chat.ts';
import type { ResponseMetadata } from '../../domain/stream-item.ts';
import { toSeconds } from '../../domain/time.ts';
import type { ApiDeps } from '../context.ts';
import { type AcceptedRun, acceptRun, type IncomingRequest } from './accept.ts';
import { idempotencyKeyOf, requestIdOf } from './caller-ids.ts';
import { follow, IDLE } from './follow.ts';
import { KEEPALIVE, KEEPALIVE_MS, sendStreamOf } from './server-sent-events.ts';
import { mayShare } from './sharing.ts';
import { termsOf } from './terms.ts';

/** What a route knows of a request; the rest is in its headers. */
export type ModelCallRequest = Omit<
  IncomingRequest,
  'caller' | 'requestId' | 'idempotencyKey' | 'share' | 'terms' | 'gone'
>;

/** Accepts a request and answers it; a caller who hangs up cancels it, unless it can be fetched or others wait for it. */
export async function startRun(
  deps: ApiDeps,
  incoming: ModelCallRequest,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ readonly run: AcceptedRun; readonly gone: AbortSignal }> {
  const requestId = requestIdOf(request);
  const idempotencyKey = idempotencyKeyOf(deps.bodies, request, incoming.surface);
  const known = requestId !== undefined || idempotencyKey !== undefined;
  const share = !known && !incoming.store && mayShare(incoming.request, request.headers);
  const { server } = deps.config.gateway;
  const terms = termsOf(request.headers, deps.routing.settings.rate_limit, server.request_deadline);
  const { caller } = request;
  const gone = new AbortController();
  const onClose = () => {
    if (!reply.raw.writableFinished) gone.abort();
  };
  if (reply.raw.destroyed) onClose();
  else reply.raw.once('close', onClose);
  // The answer of others is not the caller's to end, and one that can be fetched is waited for.
  const ends = known || share ? undefined : gone.signal;
  const run = await deps.entrance.pass(async () => {
    // While it waited for its turn.
    if (ends?.aborted) throw new HoldfastError('gateway_cancelled', 'The caller hung up.');
    return acceptRun(deps, { ...incoming, caller, requestId, idempotencyKey, share, terms, gone: ends });
  });
  request.limits = run.limits;
  if (!known) whenAborted(gone.signal, () => void hangUp(deps, run.id, share));
  reply.header('x-request-id', run.requestId).header('x-holdfast-run-id', run.id);
  if (run.origin === 'replayed') reply.header('idempotent-replayed', 'true');
  if (run.origin === 'shared') reply.header('x-holdfast-deduplicated', 'true');
  return { run, gone: gone.signal };
}

function whenAborted(signal: AbortSignal, listener: () => void): void {
  if (signal.aborted) listener();
  else signal.addEventListener('abort', listener, { once: true });
}

async function hangUp(deps: ApiDeps, id: string, shared: boolean): Promise<void> {
  try {
    if (shared && !(await deps.requests.leave(id))) return;
    await deps.runs.cancel(id);
  } catch (error) {
    deps.logger.warn({ err: error, run: id }, 'A run whose caller hung up could not be cancelled');
  }
  deps.calls.abort(id);
}

/** Waits for the whole answer. Throws the error the run ended with. */
export async function awaitResult(
  deps: ApiDeps,
  run: AcceptedRun,
  signal: AbortSignal,
): Promise<{ readonly result: ModelResult; readonly metadata: ResponseMetadata }> {
  for await (const entry of follow(deps, run, { signal })) {
    if (entry === IDLE) continue;
    if (entry.item.type === 'completed') return entry.item;
    if (entry.item.type === 'failed') throw HoldfastError.from(entry.item.error);
  }
  throw new HoldfastError('gateway_cancelled', 'The caller hung up.');
}

export const setMetadataHeaders = (reply: FastifyReply, metadata: ResponseMetadata): FastifyReply =>
  reply
    .header('x-holdfast-attempts', metadata.attempts)
    .header('x-holdfast-cost-usd', formatDollars(fromDollars(metadata.cost_usd)));

/**
 * Streams the answer as server-sent events. Nothing is sent before the first token or keepalive, so that a request that
 * fails before it still gets its HTTP status.
 */
export async function sendStream(
  deps: ApiDeps,
  run: AcceptedRun,
  includeUsage: boolean,
  gone: AbortSignal,
  reply: FastifyReply,
): Promise<FastifyReply> {
  return sendStreamAfterFirst(reply, renderEvents(deps, run, includeUsage, gone));
}

async function* renderEvents(
  deps: ApiDeps,
  run: AcceptedRun,
  includeUsage: boolean,
  gone: AbortSignal,
): AsyncGenerator<string> {
  const renderer = new ChunkRenderer({ id: run.id, created: toSeconds(run.acceptedAt) }, includeUsage);
  let sent = false;
  for await (const entry of follow(deps, run, { signal: gone, idleMs: KEEPALIVE_MS })) {
    if (entry === IDLE) {
      sent = true;
      yield KEEPALIVE;
      continue;
    }
    const { seq, item } = entry;
    switch (item.type) {
      case 'delta':
        sent = true;
        yield event(seq, renderer.delta(item.model, item.choices));
        break;
      case 'completed':
        for (const chunk of renderer.end(item.result, item.metadata)) yield event(seq, chunk);
        yield 'data: [DONE]\n\n';
        return;
      case 'interrupted':
      case 'failed':
        if (!sent) throw HoldfastError.from(item.error);
        yield `event: error\n${event(seq, toEnvelope(item.error))}`;
        return;
    }
  }
}

/** Sends a stream once it has something to send; a request that fails before that gets its HTTP status. */
export async function sendStreamAfterFirst(reply: FastifyReply, events: AsyncGenerator<string>): Promise<FastifyReply> {
  const first = await events.next();
  return sendStreamOf(reply, prepend(first, events));
}

const event = (seq: number, data: object): string => `id: ${seq}\ndata: ${JSON.stringify(data)}\n\n`;

async function* prepend(first: IteratorResult<string>, rest: AsyncGenerator<string>): AsyncGenerator<string> {
  if (first.done) return;
  yield first.value;
  yield* rest;
}
