import type { Readable } from 'node:stream';
import { retryAfterMs } from '../domain/retry-after.ts';
import { type GuardedRequest, guardedRequest, type NoAnswer, type RequestTerms } from './guarded-request.ts';

/** What became of a request whose answer is read. `refused`: asking again would change nothing. */
export type TextAnswer =
  | {
      readonly outcome: 'answered';
      readonly status: number;
      readonly text: string;
      /** Milliseconds until it wants to be asked again, where it says so. */
      readonly retryAfterMs?: number;
    }
  | NoAnswer;

const MEGABYTE = 1024 * 1024;
/** More than any model reads at once. */
const MAX_ANSWER_MB = 4;

/** Makes a request and reads its answer. Rejects with the signal's reason when that is aborted. */
export function askForText(request: GuardedRequest, terms: RequestTerms): Promise<TextAnswer> {
  return guardedRequest<TextAnswer>(request, terms, async ({ statusCode: status, headers, body }) => {
    const text = await readText(body);
    if (text === undefined) return { outcome: 'refused', reason: `The answer is larger than ${MAX_ANSWER_MB} MB.` };
    const wait = retryAfterMs((name) => [headers[name]].flat()[0]);
    return { outcome: 'answered', status, text, ...(wait !== undefined && { retryAfterMs: wait }) };
  });
}

/** undefined for what is too large; the rest of it is not read. */
async function readText(body: Readable): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_ANSWER_MB * MEGABYTE) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}
