import type { Logger } from 'pino';
import { HoldfastError } from '../domain/errors.ts';
import type { AdmissionRequest } from '../domain/model-call.ts';
import type { RateLimit } from '../domain/rate-limit.ts';
import type { Admission, Counters } from '../storage/counters/counters.ts';
import { CallFailed } from './call-failed.ts';

export interface AdmissionDeps {
  readonly counters: Counters;
  readonly logger: Logger;
}

/** Where a request stands that asks to be admitted. */
export interface AdmissionProgress {
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  /** Milliseconds it has waited so far. */
  readonly waitedMs: number;
}

/** What a slot may outlive its request's deadline by: the time a settlement takes that has to be repeated. */
const LEASE_GRACE_MS = 30_000;
/** A waiting request asks again after this long at the latest: settled requests give back what they did not use. */
const MAX_STEP_MS = 5_000;
/** Slots come free unannounced, so they are asked for often at first, then ever less. */
const MIN_SLOT_STEP_MS = 100;
const MAX_SLOT_STEP_MS = 2_000;
/** How long limits that refuse everything while they cannot be checked wait for the counters to come back. */
const PATIENCE_MS = 2_000;
const UNAVAILABLE_STEP_MS = 500;

/**
 * Takes a request from all of its limits or from none. Returns the milliseconds after which it has to ask again, or
 * undefined once it is admitted. Throws `CallFailed` with `policy_rate_limited`, or `gateway_unavailable` where its limits fail closed.
 */
export function createAdmit({ counters, logger }: AdmissionDeps) {
  return async (
    requestId: string,
    { limits, maxWaitMs = 0, priority = 'interactive', whenUnavailable = 'open' }: AdmissionRequest,
    { deadlineAt, waitedMs }: AdmissionProgress,
  ): Promise<number | undefined> => {
    if (limits.length === 0) return undefined;
    const untilDeadline = deadlineAt - Date.now();
    const left = Math.min(maxWaitMs - waitedMs, untilDeadline);
    const options = { leaseMs: Math.max(0, untilDeadline) + LEASE_GRACE_MS, priority, waits: left > 0 };
    let admission: Admission;
    try {
      admission = await counters.admit(requestId, limits, options);
    } catch (error) {
      logger.warn({ err: error, run: requestId }, 'Rate limits cannot be checked');
      if (whenUnavailable === 'open') return undefined;
      if (waitedMs < Math.max(PATIENCE_MS, maxWaitMs) && untilDeadline > 0) return UNAVAILABLE_STEP_MS;
      throw new CallFailed(unavailable());
    }
    if (admission.admitted) return undefined;
    const { limit, retryAfterMs } = admission;
    if (left > 0 && Number.isFinite(retryAfterMs))
      return Math.ceil(Math.min(stepOf(limit, retryAfterMs, waitedMs), left));
    throw new CallFailed(rateLimited(limit, retryAfterMs));
  };
}

const stepOf = ({ kind }: RateLimit, retryAfterMs: number, waitedMs: number): number =>
  kind === 'concurrent'
    ? Math.min(Math.max(MIN_SLOT_STEP_MS, waitedMs / 4), MAX_SLOT_STEP_MS)
    : Math.min(retryAfterMs, MAX_STEP_MS);

const unavailable = () =>
  new HoldfastError('gateway_unavailable', 'Rate limits cannot be checked at the moment. Try again shortly.', {
    retryAfterMs: 2_000,
  });

function rateLimited({ kind, limit, cost }: RateLimit, retryAfterMs: number): HoldfastError {
  if (!Number.isFinite(retryAfterMs)) {
    return new HoldfastError(
      'policy_rate_limited',
      `The request needs about ${cost} tokens, more than the limit of ${limit} tokens per minute.`,
    );
  }
  const reached = kind === 'concurrent' ? `${limit} requests at the same time` : `${limit} ${kind} per minute`;
  return new HoldfastError('policy_rate_limited', `Rate limit reached: ${reached}.`, { retryAfterMs });
}
