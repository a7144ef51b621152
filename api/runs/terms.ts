import type { IncomingHttpHeaders } from 'node:http';
import type { GatewayConfig } from '../../config/gateway-schema.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { type AdmissionTerms, PRIORITIES, type Priority } from '../../domain/rate-limit.ts';

const MAX_WAIT = 'x-holdfast-max-wait';
const PRIORITY = 'x-holdfast-priority';

/** How long a caller would wait for its limits, as far as the config lets it, and how urgent it says it is. */
export function termsOf(headers: IncomingHttpHeaders, { rate_limit, server }: GatewayConfig): AdmissionTerms {
  const seconds = maxWaitOf(headers[MAX_WAIT]);
  const priority = priorityOf(headers[PRIORITY]);
  const maxWaitMs = 1000 * Math.min(seconds, rate_limit.max_wait, server.request_deadline);
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
