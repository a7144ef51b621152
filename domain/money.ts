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
  /** Reasoning tokens, where they are priced apart from the rest of the output. */
  readonly reasoning?: NanoDollars;
  /** Audio tokens, where they are priced apart from text. */
  readonly audioInput?: NanoDollars;
  readonly audioOutput?: NanoDollars;
  /** Nano-dollars for each image of the request, where the provider charges for it beside its tokens. */
  readonly image?: NanoDollars;
}

/** Rates of a kind of call: they may be others once its input has more tokens than `longContext.above`. */
export interface TieredRates extends Rates {
  readonly longContext?: Rates & { readonly above: number };
}

export interface Price extends TieredRates {
  /** What a call costs by as part of a batch. */
  readonly batch?: TieredRates;
}

/**
 * Token counts of one call. Cached, reasoning and audio tokens are parts of input and output, never added to them.
 * What is optional here is not reported by most providers.
 */
export interface Usage {
  readonly inputTokens: number;
  readonly cachedInputTokens: number;
  readonly cacheWriteTokens: number;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  readonly audioInputTokens?: number;
  readonly audioOutputTokens?: number;
  /** Images of the request, where the price counts them. */
  readonly inputImages?: number;
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

export interface PricingOptions {
  /** The call is part of a batch. @default false */
  readonly batch?: boolean;
}

/** Cost of a call, rounded up to the next nano-dollar so that sums never fall below the provider's bill. */
export function costOf(usage: Usage, price: Price, { batch = false }: PricingOptions = {}): NanoDollars {
  const rates = ratesOf(usage.inputTokens, price, batch);
  const { cached, written, audio, fresh } = inputParts(usage);
  const reasoning = Math.min(usage.reasoningTokens, usage.outputTokens);
  const spoken = Math.min(usage.audioOutputTokens ?? 0, usage.outputTokens - reasoning);
  const perMillion =
    times(fresh, rates.input) +
    times(cached, rates.cachedInput) +
    times(written, rates.cacheWrite) +
    times(audio, rates.audioInput ?? rates.input) +
    times(reasoning, rates.reasoning ?? rates.output) +
    times(spoken, rates.audioOutput ?? rates.output) +
    times(usage.outputTokens - reasoning - spoken, rates.output);
  const images = (usage.inputImages ?? 0) * (rates.image ?? 0);
  return Number((perMillion + TOKENS_PER_PRICE_UNIT - 1n) / TOKENS_PER_PRICE_UNIT) + images;
}

/** What the tokens read from the provider's prompt cache would have cost more as fresh input, rounded down. */
export function cacheSavingsOf(usage: Usage, price: Price, { batch = false }: PricingOptions = {}): NanoDollars {
  const rates = ratesOf(usage.inputTokens, price, batch);
  return Number(times(inputParts(usage).cached, Math.max(0, rates.input - rates.cachedInput)) / TOKENS_PER_PRICE_UNIT);
}

/**
 * The most a call can cost: every input token at the dearest input price, and the whole output limit for each choice at
 * the dearest output price.
 * @param images Images of the request.
 */
export function maxCostOf(
  inputTokens: number,
  outputTokens: number,
  price: Price,
  images = 0,
  { batch = false }: PricingOptions = {},
): NanoDollars {
  const { longContext, ...base } = batch && price.batch ? price.batch : price;
  const reachable: readonly Rates[] = longContext && inputTokens > longContext.above ? [base, longContext] : [base];
  const costs = reachable.map((rates) => {
    const input = Math.max(rates.input, rates.cacheWrite, rates.cachedInput, rates.audioInput ?? 0);
    const output = Math.max(rates.output, rates.reasoning ?? 0, rates.audioOutput ?? 0);
    const dearest: Price = { input, output, cachedInput: input, cacheWrite: input, image: rates.image ?? 0 };
    return costOf({ ...NO_USAGE, inputTokens, outputTokens, inputImages: images }, dearest);
  });
  return Math.max(...costs);
}

function ratesOf(inputTokens: number, price: Price, batch: boolean): Rates {
  const tiered = batch && price.batch ? price.batch : price;
  return tiered.longContext && inputTokens > tiered.longContext.above ? tiered.longContext : tiered;
}

/** The input split by how it is priced. Whatever a provider reports, the parts add up to the input. */
function inputParts(usage: Usage) {
  const cached = Math.min(usage.cachedInputTokens, usage.inputTokens);
  const written = Math.min(usage.cacheWriteTokens, usage.inputTokens - cached);
  const audio = Math.min(usage.audioInputTokens ?? 0, usage.inputTokens - cached - written);
  return { cached, written, audio, fresh: usage.inputTokens - cached - written - audio };
}

const times = (tokens: number, rate: NanoDollars): bigint => BigInt(tokens) * BigInt(rate);
