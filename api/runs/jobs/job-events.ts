import type { FastifyReply, FastifyRequest } from 'fastify';
import { toEnvelope } from '../../../domain/error-envelope.ts';
import { isFinal } from '../../../domain/run-state.ts';
import type { StreamItem } from '../../../domain/stream-item.ts';
import type { StreamEntry } from '../../../storage/streams/stream-log.ts';
import type { ApiDeps } from '../../context.ts';
import { resumeAfter, sendEvents, withKeepalives } from '../server-sent-events.ts';

/** Something that happened to a run, as its readers are told. */
export interface JobEvent {
  /** What a reader resumes after. */
  readonly id: number;
  readonly event: string;
  readonly data: object;
}

/** undefined for what is not for readers. */
export function toJobEvent({ seq: id, item }: StreamEntry): JobEvent | undefined {
  switch (item.type) {
    case 'state':
      return { id, event: 'state', data: { state: item.state, ...(item.error && toEnvelope(item.error)) } };
    case 'delta':
      return { id, event: 'delta', data: { provider: item.provider, model: item.model, choices: item.choices } };
    case 'interrupted':
      return { id, event: 'interrupted', data: toEnvelope(item.error) };
    case 'step': {
      const { type: event, state: status, error, ...about } = item;
      return { id, event, data: { ...about, status, ...(error && toEnvelope(error)) } };
    }
    case 'approval': {
      const { type: event, state: status, id: approval, step } = item;
      return { id, event, data: { id: approval, step, status } };
    }
    default:
      return undefined;
  }
}

/** Who resumes beyond the end gets the end. */
export const isFor = (after: number, { seq, item }: StreamEntry): boolean => seq > after || isEnd(item);

const isEnd = (item: StreamItem): boolean => item.type === 'state' && isFinal(item.state);

interface Reading {
  readonly id: string;
  /** The event after which to begin, by the query. */
  readonly startingAfter: number | undefined;
}

/** What a run does, as server-sent events until its end. */
export function sendJobEvents(
  { journal }: ApiDeps,
  { headers }: FastifyRequest,
  reply: FastifyReply,
  { id, startingAfter }: Reading,
): FastifyReply {
  const after = resumeAfter(headers, startingAfter);
  return sendEvents(reply, (signal) =>
    withKeepalives(journal.subscribe(id, 0, signal), signal, (entry) => (isFor(after, entry) ? toText(entry) : '')),
  );
}

function toText(entry: StreamEntry): string {
  const told = toJobEvent(entry);
  return told ? `id: ${told.id}\nevent: ${told.event}\ndata: ${JSON.stringify(told.data)}\n\n` : '';
}
