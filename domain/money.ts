/**
 * Money is integer nano-dollars (1e-9 USD): one cached token of a cheap model costs less than a micro-dollar.
 * A `number` holds 9 million dollars exactly, more than any single call or key can cost.
 */
export type NanoDollars = number;

export const NANOS_PER_DOLLAR = 1_000_000_000;

const TOKENS_PER_PRICE_UNIT = 1_000_000n;

/** Prices in nano-dollars per million tokens. */
export interface Rates {
  readonly input: NanoDollars;
  readonly output: NanoDollars;
  /** Tokens read from the provider's prompt cache. */
  readonly cachedInput: NanoDollars;
  /** Tokens written to the provider's prompt cache. */
  readonly cacheWrite: NanoDollars;
}

export interface Price extends Rates {
  /** What the whole call costs by once its input has more tokens than `above`. */
  readonly longContext?: Rates & { readonly above: number };
}

/** Token counts of one call. Cached and reasoning tokens are parts of input and output, never added to them. */
export interface Usage {
  readonly inputTokens: number;
  readonly cachedInputTokens: number;
  readonly cacheWriteTokens: number;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  /** Counted by the gateway because the provider did not report it. */
  readonly estimated: boolean;
}

export const NO_USAGE: Usage = {
  inputTokens: 0,
  cachedInputTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  estimated: false,
};

/** Nano-dollars from decimal dollars as written in configs and requests. */
export const fromDollars = (dollars: number): NanoDollars => Math.round(dollars * NANOS_PER_DOLLAR);

/** Decimal dollars for JSON. */
export const toDollars = (nanos: NanoDollars): number => nanos / NANOS_PER_DOLLAR;

/** Decimal dollars for headers, never in exponent notation. */
export const formatDollars = (nanos: NanoDollars): string =>
  toDollars(nanos)
    .toFixed(9)
    .replace(/\.?0+$/, '');

/** Cost of a call, rounded up to the next nano-dollar so that sums never fall below the provider's bill. */
export function costOf(usage: Usage, price: Price): NanoDollars {
  const rates = price.longContext && usage.inputTokens > price.longContext.above ? price.longContext : price;
  const cached = Math.min(usage.cachedInputTokens, usage.inputTokens);
  const written = Math.min(usage.cacheWriteTokens, usage.inputTokens - cached);
  const fresh = usage.inputTokens - cached - written;
  const perMillion =
    BigInt(fresh) * BigInt(rates.input) +
    BigInt(cached) * BigInt(rates.cachedInput) +
    BigInt(written) * BigInt(rates.cacheWrite) +
    BigInt(usage.outputTokens) * BigInt(rates.output);
  return Number((perMillion + TOKENS_PER_PRICE_UNIT - 1n) / TOKENS_PER_PRICE_UNIT);
}

/** The most a call can cost: every input token at the dearest input price, and the whole output limit for each choice. */
export function maxCostOf(inputTokens: number, outputTokens: number, price: Price): NanoDollars {
  const { longContext, ...base } = price;
  const reachable = longContext && inputTokens > longContext.above ? [base, longContext] : [base];
  const costs = reachable.map((rates) => {
    const input = Math.max(rates.input, rates.cacheWrite, rates.cachedInput);
    return costOf({ ...NO_USAGE, inputTokens, outputTokens }, { ...rates, input });
  });
  return Math.max(...costs);
}
