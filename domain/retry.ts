import { ERRORS, type ErrorCode, type ErrorInfo } from './errors.ts';

/** Above this a wait is not worth it while another target exists. */
const MAX_RETRY_AFTER_WITH_ALTERNATIVE_MS = 2_000;

/** Calls to one target that may fail by their keys, whatever `max_retries` says. */
const MAX_KEY_FAILURES = 5;

/** Whether the key of a call is at fault rather than the call: another key may do better. */
export const blamesKey = (code: ErrorCode): boolean => code === 'provider_rate_limited' || refusesKey(code);

/** Whether a call was turned away for its key, unanswered and not billed. Such calls do not count as the provider's failures. */
export const refusesKey = (code: ErrorCode): boolean => code === 'provider_auth' || code === 'provider_quota_exhausted';

export interface RetryContext {
  /** Failed calls to this target so far, including this one and without those of refused keys. */
  readonly failures: number;
  /** Calls to this target so far whose keys were refused, including this one. */
  readonly refusedKeys: number;
  /** Whether another key can be used right now. */
  readonly hasOtherKey: boolean;
  /** Calls allowed per target, including the first (`max_retries`). */
  readonly maxAttempts: number;
  /** Base delay in milliseconds (`retry.retry_delay`). */
  readonly retryDelayMs: number;
  readonly hasNextTarget: boolean;
  /** Milliseconds until the request's deadline. */
  readonly remainingMs: number;
}

export type RetryDecision = { readonly retry: true; readonly delayMs: number } | { readonly retry: false };

/** `retry_delay × 2^(n−1)`, doubled for a rate limit; the provider's `Retry-After` wins. */
export function retryDelayMs(error: ErrorInfo, failures: number, baseMs: number): number {
  if (error.retryAfterMs !== undefined) return error.retryAfterMs;
  const backoff = baseMs * 2 ** (failures - 1);
  return error.code === 'provider_rate_limited' ? backoff * 2 : backoff;
}

/** Whether the same target is called again after `error`, and when. */
export function decideRetry(error: ErrorInfo, context: RetryContext): RetryDecision {
  if (context.hasOtherKey && blamesKey(error.code)) {
    const again = refusesKey(error.code)
      ? context.refusedKeys < MAX_KEY_FAILURES
      : context.failures < context.maxAttempts;
    return again ? { retry: true, delayMs: 0 } : { retry: false };
  }
  if (ERRORS[error.code].fallback !== 'retry') return { retry: false };
  if (context.failures >= context.maxAttempts) return { retry: false };
  const delayMs = retryDelayMs(error, context.failures, context.retryDelayMs);
  if (delayMs >= context.remainingMs) return { retry: false };
  const impatient = context.hasNextTarget && (error.retryAfterMs ?? 0) > MAX_RETRY_AFTER_WITH_ALTERNATIVE_MS;
  return impatient ? { retry: false } : { retry: true, delayMs };
}

/** Whether a call that was not made, because the provider's limits are used up, waits for them or moves on. */
export const worthWaiting = (waitMs: number, context: Pick<RetryContext, 'hasNextTarget' | 'remainingMs'>): boolean =>
  waitMs < context.remainingMs && (!context.hasNextTarget || waitMs <= MAX_RETRY_AFTER_WITH_ALTERNATIVE_MS);
