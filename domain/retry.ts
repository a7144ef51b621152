import { ERRORS, type ErrorInfo } from './errors.ts';

/** Above this a wait is not worth it while another target exists. */
const MAX_RETRY_AFTER_WITH_ALTERNATIVE_MS = 2_000;

export interface RetryContext {
  /** Failed calls to this target so far, including this one; 1 after the first failure. */
  readonly failures: number;
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
