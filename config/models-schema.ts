import { z } from 'zod';
import { CAPABILITIES, type Capability } from '../domain/capabilities.ts';
import { Catalogue, type CatalogueModel, type ModelSource } from '../domain/catalogue.ts';
import { fromDollars, type Price, type Rates, type TieredRates } from '../domain/money.ts';

const dollars = z.number().min(0).max(10_000);

/** USD per million tokens, and per image. */
const rates = z.strictObject({
  input: dollars,
  output: dollars,
  /** By default the input price. */
  cached_input: dollars.optional(),
  /** By default the input price. */
  cache_write: dollars.optional(),
  /** Reasoning tokens; by default the output price. */
  reasoning: dollars.optional(),
  /** Audio tokens; by default the input and the output price. */
  audio_input: dollars.optional(),
  audio_output: dollars.optional(),
  /** USD for each image, beside its tokens; by default none. */
  image: dollars.optional(),
});

const longContext = rates.extend({ above: z.int().positive() });
/** A discount on every rate, or rates of its own whatever the length of the input. */
const batch = z.union([z.strictObject({ discount_percent: z.number().min(0).max(100) }), rates]);

const priceChange = rates.extend({
  /** The day the price begins to hold, at midnight UTC. */
  from: z.iso.date(),
  long_context: longContext.optional(),
  batch: batch.optional(),
});

/** One model: an entry of a models file, and the body of `PUT /api/v1/models/{id}`. */
export const modelSchema = z.strictObject({
  aliases: z.array(z.string()).default([]),
  context_window: z.int().positive(),
  max_output_tokens: z.int().positive(),
  price: rates,
  /** Prices of the whole call once its input has more tokens than `above`. */
  long_context: longContext.optional(),
  /** Prices of calls that are part of a batch. */
  batch: batch.optional(),
  /** Announced prices; each replaces `price`, `long_context` and `batch` from its day on. */
  price_changes: z.array(priceChange).default([]),
  capabilities: z.array(z.enum(CAPABILITIES)).default([]),
  /** Vendor → the id its API expects; the model's own vendor first. */
  vendors: z.record(z.string(), z.string()),
});

export type ModelEntry = z.output<typeof modelSchema>;

export const modelsSchema = z.strictObject({
  /** The day the prices were read. */
  price_date: z.iso.date(),
  models: z.record(z.string(), modelSchema),
});

type ModelsFile = z.output<typeof modelsSchema>;

/** The catalogue of the built-in models file and the operator's; a model of a later file replaces one of the same id. */
export function buildCatalogue(builtIn: ModelsFile, ...others: readonly ModelsFile[]): Catalogue {
  const toModels = (file: ModelsFile, source: ModelSource) =>
    Object.entries(file.models).map(([id, entry]) => toModel(id, entry, source));
  return others.reduce(
    (catalogue, file) => catalogue.with(toModels(file, 'file'), file.price_date),
    new Catalogue(toModels(builtIn, 'built_in'), builtIn.price_date),
  );
}

/** A model of the catalogue from its entry. */
export const toModel = (id: string, entry: ModelEntry, source: ModelSource): CatalogueModel => ({
  id,
  aliases: entry.aliases,
  contextWindow: entry.context_window,
  maxOutputTokens: entry.max_output_tokens,
  price: toPrice(entry.price, entry),
  priceChanges: [...entry.price_changes]
    .sort((a, b) => a.from.localeCompare(b.from))
    .map((change) => ({ from: change.from, price: toPrice(change, change) })),
  capabilities: new Set<Capability>(entry.capabilities),
  vendors: new Map(Object.entries(entry.vendors)),
  source,
});

type RatesEntry = z.output<typeof rates>;

function toPrice(entry: RatesEntry, { long_context, batch }: Pick<ModelEntry, 'long_context' | 'batch'>): Price {
  const tiered: TieredRates = {
    ...toRates(entry),
    ...(long_context && { longContext: { ...toRates(long_context), above: long_context.above } }),
  };
  if (!batch) return tiered;
  return {
    ...tiered,
    batch: 'discount_percent' in batch ? discounted(tiered, batch.discount_percent) : toRates(batch),
  };
}

const toRates = ({ input, output, cached_input = input, cache_write = input, ...rest }: RatesEntry): Rates => ({
  input: fromDollars(input),
  output: fromDollars(output),
  cachedInput: fromDollars(cached_input),
  cacheWrite: fromDollars(cache_write),
  ...(rest.reasoning !== undefined && { reasoning: fromDollars(rest.reasoning) }),
  ...(rest.audio_input !== undefined && { audioInput: fromDollars(rest.audio_input) }),
  ...(rest.audio_output !== undefined && { audioOutput: fromDollars(rest.audio_output) }),
  ...(rest.image !== undefined && { image: fromDollars(rest.image) }),
});

function discounted({ longContext, ...base }: TieredRates, percent: number): TieredRates {
  const reduce = (rates: Rates): Rates =>
    Object.fromEntries(
      Object.entries(rates).map(([kind, rate]) => [kind, Math.ceil((rate * (100 - percent)) / 100)]),
    ) as unknown as Rates;
  const { above, ...long } = longContext ?? { above: 0 };
  return { ...reduce(base), ...(longContext && { longContext: { ...reduce(long as Rates), above } }) };
}
