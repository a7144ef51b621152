import { describe, expect, it } from 'vitest';
import { ERRORS, type ErrorCode, faultOf, HoldfastError, toHoldfastError } from '../../domain/errors.ts';

const codes = Object.keys(ERRORS) as ErrorCode[];

describe('the catalogue', () => {
  it.each(codes)('%s names who is at fault and answers with a fitting status', (code) => {
    const { status } = ERRORS[code];
    switch (faultOf(code)) {
      case 'caller':
      case 'policy':
        expect(status).toBeGreaterThanOrEqual(400);
        expect(status).toBeLessThan(500);
        break;
      case 'gateway':
        expect([409, 500, 503, 504]).toContain(status);
        break;
      case 'provider':
        // Never 401 or 403: they would blame the caller's key for the gateway's.
        expect([400, 404, 429, 502, 503, 504]).toContain(status);
    }
  });
});

describe('HoldfastError', () => {
  it('survives the way through history', () => {
    const error = new HoldfastError('provider_rate_limited', 'slow down', { retryAfterMs: 100, providerStatus: 429 });
    const back = HoldfastError.from(JSON.parse(JSON.stringify(error.info)));
    expect(back.info).toEqual(error.info);
  });
});

describe('toHoldfastError', () => {
  it('hides the message of an error that is not ours', () => {
    const hidden = toHoldfastError(new Error('password=hunter2'));
    expect(hidden.code).toBe('gateway_internal');
    expect(hidden.message).not.toContain('hunter2');
  });
});
