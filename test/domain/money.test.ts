import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { costOf, formatDollars, fromDollars, maxCostOf, NO_USAGE, type Price, toDollars } from '../../domain/money.ts';

const price: Price = {
  input: fromDollars(3),
  output: fromDollars(15),
  cachedInput: fromDollars(0.3),
  cacheWrite: fromDollars(3.75),
};

const tokens = fc.nat({ max: 2_000_000 });
const anyPrice: fc.Arbitrary<Price> = fc.record({
  input: fc.nat({ max: fromDollars(200) }),
  output: fc.nat({ max: fromDollars(800) }),
  cachedInput: fc.nat({ max: fromDollars(200) }),
  cacheWrite: fc.nat({ max: fromDollars(200) }),
});

describe('costOf', () => {
  it('prices fresh, cached and written input and output apart', () => {
    const usage = { ...NO_USAGE, inputTokens: 1_000, cachedInputTokens: 600, cacheWriteTokens: 300, outputTokens: 100 };
    // 100 × $3 + 600 × $0.30 + 300 × $3.75 + 100 × $15, per million
    expect(toDollars(costOf(usage, price))).toBeCloseTo((300 + 180 + 1_125 + 1_500) / 1e6, 12);
  });

  it('charges one cached token of a cheap model, which is less than a micro-dollar', () => {
    const cheap = { ...price, cachedInput: fromDollars(0.025) };
    expect(costOf({ ...NO_USAGE, inputTokens: 1, cachedInputTokens: 1 }, cheap)).toBe(25);
  });

  it('prices the whole call by the long-context rates once its input is above their threshold', () => {
    const tiered = {
      ...price,
      longContext: { ...price, above: 200_000, input: fromDollars(6), output: fromDollars(22.5) },
    };
    const usage = { ...NO_USAGE, inputTokens: 200_000, outputTokens: 1_000 };
    expect(toDollars(costOf(usage, tiered))).toBeCloseTo(0.6 + 0.015, 9);
    expect(toDollars(costOf({ ...usage, inputTokens: 200_001 }, tiered))).toBeCloseTo(1.200006 + 0.0225, 9);
    expect(maxCostOf(200_001, 1_000, tiered)).toBeGreaterThanOrEqual(
      costOf({ ...usage, inputTokens: 200_001 }, tiered),
    );
  });

  it('never comes out below the exact price and at most a nano-dollar above', () => {
    fc.assert(
      fc.property(tokens, tokens, anyPrice, (inputTokens, outputTokens, any) => {
        const cost = costOf({ ...NO_USAGE, inputTokens, outputTokens }, any);
        const exact = BigInt(inputTokens) * BigInt(any.input) + BigInt(outputTokens) * BigInt(any.output);
        expect(BigInt(cost) * 1_000_000n).toBeGreaterThanOrEqual(exact);
        expect(BigInt(cost) * 1_000_000n).toBeLessThan(exact + 1_000_000n);
        expect(Number.isSafeInteger(cost)).toBe(true);
      }),
    );
  });

  it('never charges more input than there was, whatever a provider reports as cached', () => {
    fc.assert(
      fc.property(tokens, tokens, tokens, (inputTokens, cachedInputTokens, cacheWriteTokens) => {
        const usage = { ...NO_USAGE, inputTokens, cachedInputTokens, cacheWriteTokens };
        expect(costOf(usage, price)).toBeLessThanOrEqual(maxCostOf(inputTokens, 0, price));
      }),
    );
  });
});

describe('maxCostOf', () => {
  it('bounds every call within its token limits', () => {
    const call = fc.record({
      limits: fc.tuple(tokens, tokens),
      used: fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })),
      cached: fc.double({ min: 0, max: 1, noNaN: true }),
      any: anyPrice,
    });
    fc.assert(
      fc.property(call, ({ limits: [input, output], used, cached, any }) => {
        const inputTokens = Math.floor(input * used[0]);
        const usage = {
          ...NO_USAGE,
          inputTokens,
          cachedInputTokens: Math.floor(inputTokens * cached),
          outputTokens: Math.floor(output * used[1]),
        };
        expect(costOf(usage, any)).toBeLessThanOrEqual(maxCostOf(input, output, any));
      }),
    );
  });
});

describe('formatDollars', () => {
  it.each([
    [0, '0'],
    [25, '0.000000025'],
    [17_000, '0.000017'],
    [1_500_000_000, '1.5'],
    [20_000_000_000, '20'],
  ])('writes %i nano-dollars as %s', (nanos, text) => {
    expect(formatDollars(nanos)).toBe(text);
  });
});
