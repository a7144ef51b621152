import { describe, expect, it } from 'vitest';
import type { ErrorCode, ErrorInfo } from '../../domain/errors.ts';
import { decideRetry, type RetryContext, retryDelayMs } from '../../domain/retry.ts';

const context: RetryContext = {
  failures: 1,
  refusedKeys: 0,
  hasOtherKey: false,
  maxAttempts: 3,
  retryDelayMs: 1_000,
  hasNextTarget: false,
  remainingMs: 600_000,
};
const error = (code: ErrorCode, retryAfterMs?: number): ErrorInfo => ({
  code,
  message: '',
  ...(retryAfterMs !== undefined && { retryAfterMs }),
});

describe('retryDelayMs', () => {
  it('is retry_delay × 2^(n−1)', () => {
    expect([1, 2, 3].map((n) => retryDelayMs(error('provider_server_error'), n, 1_000))).toEqual([1_000, 2_000, 4_000]);
  });

  it('doubles for a rate limit', () => {
    expect([1, 2].map((n) => retryDelayMs(error('provider_rate_limited'), n, 1_000))).toEqual([2_000, 4_000]);
  });

  it('gives way to Retry-After', () => {
    expect(retryDelayMs(error('provider_rate_limited', 250), 2, 1_000)).toBe(250);
  });
});

describe('decideRetry', () => {
  it.each<ErrorCode>([
    'provider_rate_limited',
    'provider_overloaded',
    'provider_timeout',
    'provider_network',
    'provider_server_error',
  ])('repeats %s', (code) => {
    expect(decideRetry(error(code), context).retry).toBe(true);
  });

  it.each<ErrorCode>([
    'provider_auth',
    'provider_model_not_found',
    'provider_context_length',
    'provider_invalid_request',
    'provider_content_filtered',
    'provider_quota_exhausted',
    'provider_stream_interrupted',
  ])('does not repeat %s', (code) => {
    expect(decideRetry(error(code), context)).toEqual({ retry: false });
  });

  it('stops when the calls are used up', () => {
    expect(decideRetry(error('provider_overloaded'), { ...context, failures: 3 })).toEqual({ retry: false });
  });

  it('does not wait beyond the deadline', () => {
    expect(decideRetry(error('provider_overloaded'), { ...context, remainingMs: 900 })).toEqual({ retry: false });
    expect(decideRetry(error('provider_rate_limited', 60_000), { ...context, remainingMs: 30_000 })).toEqual({
      retry: false,
    });
  });

  it('does not wait over 2 s for a Retry-After while another target exists', () => {
    const busy = { ...context, hasNextTarget: true };
    expect(decideRetry(error('provider_rate_limited', 2_500), busy)).toEqual({ retry: false });
    expect(decideRetry(error('provider_rate_limited', 2_000), busy)).toEqual({ retry: true, delayMs: 2_000 });
    expect(decideRetry(error('provider_rate_limited', 2_500), context)).toEqual({ retry: true, delayMs: 2_500 });
  });

  describe('with another key at hand', () => {
    const other = { ...context, hasOtherKey: true };

    it.each<ErrorCode>(['provider_auth', 'provider_quota_exhausted'])(
      'repeats %s at once, five times at most',
      (code) => {
        // max_retries is about the provider's failures, and these calls never got that far.
        const refused = { ...other, failures: 0, maxAttempts: 1 };
        expect(decideRetry(error(code), { ...refused, refusedKeys: 4 })).toEqual({ retry: true, delayMs: 0 });
        expect(decideRetry(error(code), { ...refused, refusedKeys: 5 })).toEqual({ retry: false });
      },
    );

    it('does not wait for a rate limit, but counts it', () => {
      const limited = error('provider_rate_limited', 60_000);
      expect(decideRetry(limited, { ...other, hasNextTarget: true })).toEqual({ retry: true, delayMs: 0 });
      expect(decideRetry(limited, { ...other, failures: 3 })).toEqual({ retry: false });
    });

    it('treats errors that no key helps with as ever', () => {
      expect(decideRetry(error('provider_overloaded'), other)).toEqual({ retry: true, delayMs: 1_000 });
      expect(decideRetry(error('provider_invalid_request'), other)).toEqual({ retry: false });
    });
  });
});
