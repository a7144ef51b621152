import { type ErrorInfo, HoldfastError } from '../../../domain/errors.ts';
import { type ResponseEvent, ResponseEvents } from '../../../domain/responses/events.ts';
import type { ResponseSeed } from '../../../domain/responses/seed.ts';
import type { RunState } from '../../../domain/run-state.ts';
import type { StreamItem } from '../../../domain/stream-item.ts';
import type { ApiDeps } from '../../context.ts';
import type { AcceptedRun } from '../accept.ts';
import { completedItem, follow, IDLE } from '../follow.ts';
import { KEEPALIVE, KEEPALIVE_MS } from '../server-sent-events.ts';

/** Events as OpenAI sends them; the id is what `Last-Event-ID` resumes after. */
export const toEventText = (event: ResponseEvent): string =>
  `id: ${event.sequence_number}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

/** Renders the log of one response, entry by entry. The same log gives the same events. */
export class ResponseRenderer {
  private readonly events: ResponseEvents;
  private readonly deps: ApiDeps;
  private readonly id: string;
  private begun = false;

  constructor(deps: ApiDeps, seed: ResponseSeed) {
    this.deps = deps;
    this.id = seed.id;
    this.events = new ResponseEvents(seed);
  }

  async render(item: StreamItem): Promise<readonly ResponseEvent[]> {
    const created = this.begun ? [] : this.events.created();
    this.begun = true;
    return [...created, ...(await this.rendered(item))];
  }

  private async rendered(item: StreamItem): Promise<readonly ResponseEvent[]> {
    switch (item.type) {
      case 'delta':
        return this.events.delta(item.choices);
      case 'interrupted':
        return this.events.interrupted();
      case 'completed':
        return this.events.completed(item.result, item.metadata);
      case 'failed':
        return this.events.failed(item.error);
      case 'state':
        return this.state(item.state, item.error);
      default:
        return [];
    }
  }

  private async state(state: RunState, error: ErrorInfo = LOST): Promise<readonly ResponseEvent[]> {
    switch (state) {
      case 'running':
        return this.events.running();
      case 'completed': {
        const { result, metadata } = await completedItem(this.deps, this.id);
        return this.events.completed(result, metadata);
      }
      case 'failed':
      case 'cancelled':
        return this.events.failed(state === 'cancelled' ? { ...error, code: 'gateway_cancelled' } : error);
      default:
        return [];
    }
  }
}

const LOST: ErrorInfo = {
  code: 'gateway_internal',
  message: 'The gateway failed on this request. It has been logged.',
};

/**
 * The events of a response whose caller waits. Nothing is sent before the first token or keepalive, so that a request
 * that fails before it still gets its HTTP status.
 */
export async function* liveEvents(
  deps: ApiDeps,
  run: AcceptedRun,
  seed: ResponseSeed,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const renderer = new ResponseRenderer(deps, seed);
  let sent = false;
  for await (const entry of follow(deps, run, { signal, idleMs: KEEPALIVE_MS })) {
    if (entry === IDLE) {
      sent = true;
      yield KEEPALIVE;
      continue;
    }
    const { item } = entry;
    if (!sent && (item.type === 'failed' || item.type === 'interrupted')) throw HoldfastError.from(item.error);
    sent = true;
    yield (await renderer.render(item)).map(toEventText).join('');
  }
}

/** A response in the background as it is now: what its last event about the whole response says. */
export async function currentResponse(deps: ApiDeps, seed: ResponseSeed): Promise<object> {
  const renderer = new ResponseRenderer(deps, seed);
  let response: object = {};
  for (let next = 0; ; ) {
    const entries = await deps.journal.read(seed.id, next);
    for (const { item } of entries) {
      for (const event of await renderer.render(item)) if ('response' in event) response = event.response;
    }
    const last = entries.at(-1);
    if (!last) return response;
    next = last.seq + 1;
  }
}
