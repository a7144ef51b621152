import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { HoldfastError } from '../../domain/errors.ts';

export const KEEPALIVE_MS = 15_000;
export const KEEPALIVE = ': keepalive\n\n';

/** The event after which a reader goes on: `Last-Event-ID` as browsers send it, or the query's word. -1 for all. */
export function resumeAfter(headers: IncomingHttpHeaders, startingAfter: number | undefined): number {
  const header = headers['last-event-id'];
  if (startingAfter !== undefined || header === undefined) return startingAfter ?? -1;
  if (typeof header === 'string' && /^\d{1,9}$/.test(header)) return Number(header);
  throw new HoldfastError('caller_invalid_request', 'Last-Event-ID must be the id of an event.', {
    param: 'Last-Event-ID',
  });
}

/** Answers with a stream of events, which ends early when the reader hangs up. */
export function sendEvents(reply: FastifyReply, events: (gone: AbortSignal) => AsyncIterable<string>): FastifyReply {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  if (reply.raw.destroyed) gone.abort();
  return sendStreamOf(reply, events(gone.signal));
}

export const sendStreamOf = (reply: FastifyReply, events: AsyncIterable<string>): FastifyReply =>
  reply
    .header('content-type', 'text/event-stream; charset=utf-8')
    .header('cache-control', 'no-cache, no-transform')
    .header('x-accel-buffering', 'no')
    .send(Readable.from(events, { objectMode: false }));

/** Renders entries as they come, and a keepalive where none came for a while; '' is left out. */
export async function* withKeepalives<T>(
  entries: AsyncIterable<T>,
  signal: AbortSignal,
  render: (entry: T) => string | Promise<string>,
): AsyncGenerator<string> {
  const iterator = entries[Symbol.asyncIterator]();
  let next = iterator.next();
  while (!signal.aborted) {
    const timer = new Timer(KEEPALIVE_MS);
    const result = await Promise.race([next, timer.over]);
    timer.stop();
    if (result === undefined) {
      yield KEEPALIVE;
      continue;
    }
    if (result.done) return;
    const text = await render(result.value);
    if (text) yield text;
    next = iterator.next();
  }
}

class Timer {
  readonly over: Promise<undefined>;
  private handle: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    this.over = new Promise((resolve) => {
      this.handle = setTimeout(() => resolve(undefined), ms);
    });
  }

  stop(): void {
    clearTimeout(this.handle);
  }
}
