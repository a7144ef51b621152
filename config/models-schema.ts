import { z } from 'zod';
import { CAPABILITIES, type Capability } from '../domain/capabilities.ts';
import { Catalogue, type CatalogueModel } from '../domain/catalogue.ts';
import { fromDollars, type Rates } from '../domain/money.ts';

const dollarsPerMillion = z.number().min(0).max(10_000);

/** USD per million tokens. */
const rates = z.strictObject({
  input: dollarsPerMillion,
  output: dollarsPerMillion,
  /** By default the input price. */
  cached_input: dollarsPerMillion.optional(),
  /** By default the input price. */
  cache_write: dollarsPerMillion.optional(),
});

export const modelsSchema = z.strictObject({
  /** The day the prices were read. */
  price_date: z.iso.date(),
  models: z.record(
    z.string(),
    z.strictObject({
      aliases: z.array(z.string()).default([]),
      context_window: z.int().positive(),
      max_output_tokens: z.int().positive(),
      price: rates,
      /** Prices of the whole call once its input has more tokens than `above`. */
      long_context: rates.extend({ above: z.int().positive() }).optional(),
      capabilities: z.array(z.enum(CAPABILITIES)).default([]),
      /** Vendor → the id its API expects; the model's own vendor first. */
      vendors: z.record(z.string(), z.string()),
    }),
  ),
});

type ModelsFile = z.output<typeof modelsSchema>;

/** The catalogue of one or more models files; a model of a later file replaces one of the same id. */
export function buildCatalogue(files: readonly ModelsFile[]): Catalogue {
  const models = new Map<string, CatalogueModel>();
  for (const file of files) {
    for (const [id, model] of Object.entries(file.models)) {
      const { price, long_context } = model;
      models.set(id, {
        id,
        aliases: model.aliases,
        contextWindow: model.context_window,
        maxOutputTokens: model.max_output_tokens,
        price: {
          ...toRates(price),
          ...(long_context && { longContext: { ...toRates(long_context), above: long_context.above } }),
        },
        capabilities: new Set<Capability>(model.capabilities),
        vendors: new Map(Object.entries(model.vendors)),
      });
    }
  }
  const priceDate =
    files
      .map((file) => file.price_date)
      .sort()
      .at(-1) ?? '1970-01-01';
  return new Catalogue([...models.values()], priceDate);
}

const toRates = ({ input, output, cached_input = input, cache_write = input }: z.output<typeof rates>): Rates => ({
  input: fromDollars(input),
  output: fromDollars(output),
  cachedInput: fromDollars(cached_input),
  cacheWrite: fromDollars(cache_write),
});
