import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cacheSavingsOf,
  costOf,
  formatDollars,
  fromDollars,
  maxCostOf,
  NO_USAGE,
  type Price,
  type Rates,
  toDollars,
} from '../../domain/money.ts';

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

const rate = fc.nat({ max: fromDollars(800) });
const anyRates: fc.Arbitrary<Rates> = fc.record(
  {
    input: rate,
    output: rate,
    cachedInput: rate,
    cacheWrite: rate,
    reasoning: rate,
    audioInput: rate,
    audioOutput: rate,
    image: rate,
  },
  { requiredKeys: ['input', 'output', 'cachedInput', 'cacheWrite'] },
);
const longRates = fc.tuple(anyRates, fc.nat({ max: 300_000 })).map(([rates, above]) => ({ ...rates, above }));
const anyTiers = fc
  .tuple(anyRates, fc.option(longRates))
  .map(([rates, longContext]) => ({ ...rates, ...(longContext && { longContext }) }));
/** A price of every kind there is. */
const fullPrice: fc.Arbitrary<Price> = fc
  .tuple(anyTiers, fc.option(anyTiers))
  .map(([tiers, batch]) => ({ ...tiers, ...(batch && { batch }) }));

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

  it('prices reasoning, audio and images apart where the provider does', () => {
    const spoken: Price = {
      ...price,
      reasoning: fromDollars(20),
      audioInput: fromDollars(40),
      audioOutput: fromDollars(80),
      image: fromDollars(0.01),
    };
    const usage = {
      ...NO_USAGE,
      inputTokens: 1_000,
      cachedInputTokens: 100,
      audioInputTokens: 400,
      outputTokens: 500,
      reasoningTokens: 200,
      audioOutputTokens: 100,
      inputImages: 2,
    };
    // in: 500 × $3 + 100 × $0.30 + 400 × $40; out: 200 × $20 + 100 × $80 + 200 × $15, per million; 2 images
    const tokens = 1_500 + 30 + 16_000 + 4_000 + 8_000 + 3_000;
    expect(toDollars(costOf(usage, spoken))).toBeCloseTo(tokens / 1e6 + 0.02, 12);
    // Without prices of their own they cost what text costs.
    expect(toDollars(costOf(usage, price))).toBeCloseTo((2_700 + 30 + 7_500) / 1e6, 12);
  });

  it('prices a call of a batch by the batch rates, where there are any', () => {
    const usage = { ...NO_USAGE, inputTokens: 1_000_000, outputTokens: 1_000_000 };
    const batch = { ...price, input: fromDollars(1), output: fromDollars(2) };
    expect(toDollars(costOf(usage, { ...price, batch }, { batch: true }))).toBe(3);
    expect(toDollars(costOf(usage, { ...price, batch }))).toBe(18);
    expect(toDollars(costOf(usage, price, { batch: true }))).toBe(18);
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

describe('cacheSavingsOf', () => {
  it('is what cached tokens would have cost more as fresh input', () => {
    const usage = { ...NO_USAGE, inputTokens: 1_000, cachedInputTokens: 600, outputTokens: 50 };
    expect(toDollars(cacheSavingsOf(usage, price))).toBeCloseTo((600 * 2.7) / 1e6, 12);
    expect(cacheSavingsOf({ ...NO_USAGE, inputTokens: 1_000 }, price)).toBe(0);
  });

  it('is nothing where cached input costs more', () => {
    const usage = { ...NO_USAGE, inputTokens: 1_000, cachedInputTokens: 600 };
    expect(cacheSavingsOf(usage, { ...price, cachedInput: fromDollars(4) })).toBe(0);
  });
});

describe('maxCostOf', () => {
  it.each([
    ['cachedInput', { cachedInputTokens: 1_000 }],
    ['cacheWrite', { cacheWriteTokens: 1_000 }],
    ['audioInput', { audioInputTokens: 1_000 }],
    ['reasoning', { reasoningTokens: 100 }],
    ['audioOutput', { audioOutputTokens: 100 }],
    ['image', { inputImages: 3 }],
  ])('is reached by a call that uses nothing but what is dearest: %s', (kind, used) => {
    const dearest: Price = { ...price, [kind]: fromDollars(500) };
    const usage = { ...NO_USAGE, inputTokens: 1_000, outputTokens: 100, ...used };
    const max = maxCostOf(1_000, 100, dearest, 3);
    expect(costOf(usage, dearest)).toBeLessThanOrEqual(max);
    expect(max).toBeGreaterThan(maxCostOf(1_000, 100, price, 3));
    expect(costOf(usage, dearest)).toBeGreaterThan(max * 0.6);
  });

  it('bounds every kind of usage by every kind of price', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const call = fc.record({
      limits: fc.tuple(tokens, tokens, fc.nat({ max: 50 })),
      used: fc.tuple(share, share, share),
      parts: fc.tuple(share, share, share, share, share),
      any: fullPrice,
      batch: fc.boolean(),
    });
    fc.assert(
      fc.property(call, ({ limits: [input, output, images], used, parts, any, batch }) => {
        const inputTokens = Math.floor(input * used[0]);
        const outputTokens = Math.floor(output * used[1]);
        const usage = {
          ...NO_USAGE,
          inputTokens,
          cachedInputTokens: Math.floor(inputTokens * parts[0]),
          cacheWriteTokens: Math.floor(inputTokens * parts[1]),
          audioInputTokens: Math.floor(inputTokens * parts[2]),
          outputTokens,
          reasoningTokens: Math.floor(outputTokens * parts[3]),
          audioOutputTokens: Math.floor(outputTokens * parts[4]),
          inputImages: Math.floor(images * used[2]),
        };
        expect(costOf(usage, any, { batch })).toBeLessThanOrEqual(maxCostOf(input, output, any, images, { batch }));
      }),
      { numRuns: 500 },
    );
  });

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
