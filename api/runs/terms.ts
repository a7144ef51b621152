import type { IncomingHttpHeaders } from 'node:http';
import type { PlatformSettings } from '../../config/gateway-schema.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { type AdmissionTerms, PRIORITIES, type Priority } from '../../domain/rate-limit.ts';

const MAX_WAIT = 'x-holdfast-max-wait';
const PRIORITY = 'x-holdfast-priority';

/**
 * How long a caller would wait for its limits, as far as the settings let it, and how urgent it says it is.
 *
 * @param deadlineSeconds Within which every request is answered.
 */
export function termsOf(
  headers: IncomingHttpHeaders,
  { max_wait }: PlatformSettings['rate_limit'],
  deadlineSeconds: number,
): AdmissionTerms {
  const seconds = maxWaitOf(headers[MAX_WAIT]);
  const priority = priorityOf(headers[PRIORITY]);
  const maxWaitMs = 1000 * Math.min(seconds, max_wait, deadlineSeconds);
  return { ...(maxWaitMs > 0 && { maxWaitMs }), ...(priority && { priority }) };
}

function maxWaitOf(header: string | string[] | undefined): number {
  if (header === undefined) return 0;
  if (typeof header === 'string' && /^\d+(\.\d+)?$/.test(header)) return Number(header);
  throw new HoldfastError('caller_invalid_request', `${MAX_WAIT} must be a number of seconds.`, { param: MAX_WAIT });
}

function priorityOf(header: string | string[] | undefined): Priority | undefined {
  if (header === undefined) return undefined;
  const priority = PRIORITIES.find((name) => name === header);
  if (priority) return priority;
  throw new HoldfastError('caller_invalid_request', `${PRIORITY} must be one of: ${PRIORITIES.join(', ')}.`, {
    param: PRIORITY,
  });
}
