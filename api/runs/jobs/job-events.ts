import { toEnvelope } from '../../../domain/error-envelope.ts';
import type { StreamEntry } from '../../../storage/streams/stream-log.ts';

/** An entry of a run's log as a server-sent event; its id is what `Last-Event-ID` resumes after. */
export function toJobEvent({ seq, item }: StreamEntry): string {
  switch (item.type) {
    case 'state':
      return event(seq, 'state', { state: item.state, ...(item.error && toEnvelope(item.error)) });
    case 'delta':
      return event(seq, 'delta', { provider: item.provider, model: item.model, choices: item.choices });
    case 'interrupted':
      return event(seq, 'interrupted', toEnvelope(item.error));
    default:
      return '';
  }
}

const event = (seq: number, type: string, data: object): string =>
  `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`;
