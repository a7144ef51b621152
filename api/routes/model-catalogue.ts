import { z } from 'zod';
import { modelSchema } from '../../config/models-schema.ts';
import { CAPABILITIES } from '../../domain/capabilities.ts';
import { type CatalogueModel, MODEL_SOURCES, pricedAt } from '../../domain/catalogue.ts';
import { modelName } from '../../domain/chat-body.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { type Price, type Rates, type TieredRates, toDollars } from '../../domain/money.ts';
import type { RoutingTable } from '../../domain/route-plan.ts';
import { cursor, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

/** USD per million tokens; `image` USD for each. */
const rates = z.object({
  input: z.number(),
  output: z.number(),
  cached_input: z.number(),
  cache_write: z.number(),
  reasoning: z.number().optional(),
  audio_input: z.number().optional(),
  audio_output: z.number().optional(),
  image: z.number().optional(),
});
const tieredRates = rates.extend({ long_context: rates.extend({ above: z.number() }).optional() });
const price = tieredRates.extend({
  batch: tieredRates.optional(),
  /** ISO date; the price ends at its midnight, UTC. null while no other is announced. */
  valid_until: z.string().nullable(),
});

const model = z.object({
  id: z.string(),
  aliases: z.array(z.string()),
  /** Configured providers that serve it, each with the id its API expects. */
  providers: z.array(z.object({ provider: z.string(), model: z.string() })),
  vendors: z.record(z.string(), z.string()),
  context_window: z.number(),
  max_output_tokens: z.number(),
  price,
  price_changes: z.array(price.extend({ valid_from: z.string() })),
  capabilities: z.array(z.enum(CAPABILITIES)),
  source: z.enum(MODEL_SOURCES),
});

/** Models with their prices, and the ones that operators store over those of the files. */
export const modelCatalogue: Routes = async (app, { routing, overlays }) => {
  const needs = 'settings:manage';
  const params = z.object({ id: modelName });
  const tags = ['models'];

  const find = (id: string) => {
    const found = routing.table.catalogue.models.find((entry) => entry.id === id);
    if (!found) throw new HoldfastError('caller_not_found', `There is no model '${id}'.`);
    return toJson(found, routing.table);
  };

  const list = {
    summary: 'The catalogue: every model the gateway knows, by id',
    tags,
    querystring: z.object({ limit, cursor }),
    response: { 200: z.object({ data: z.array(model), next_cursor: z.string().nullable() }) },
  };
  app.get('/api/v1/models', { config: { access: 'authenticated' }, schema: list }, ({ query }) => {
    const { table } = routing;
    const after = [...table.catalogue.models]
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .filter(({ id }) => query.cursor === undefined || id > query.cursor);
    const data = after.slice(0, query.limit).map((entry) => toJson(entry, table));
    return { data, next_cursor: after.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = { summary: 'One model of the catalogue', tags, params, response: { 200: model } };
  app.get('/api/v1/models/:id', { config: { access: 'authenticated' }, schema: read }, ({ params: { id } }) =>
    find(id),
  );

  const put = {
    summary: 'Store a model, or replace one',
    description: 'The body is an entry of a models file. Every process goes by it within a second.',
    tags,
    params,
    body: modelSchema,
    response: { 200: model },
  };
  app.put(
    '/api/v1/models/:id',
    { config: { needs, audit: 'model.put' }, schema: put },
    async ({ params: { id }, body }) => {
      await overlays.putModel(id, body);
      await routing.refresh();
      return find(id);
    },
  );

  const remove = { summary: 'Remove a stored model; what the files say of it holds again', tags, params };
  app.delete(
    '/api/v1/models/:id',
    { config: { needs, audit: 'model.delete' }, schema: remove },
    async ({ params: { id } }, reply) => {
      if (!(await overlays.removeModel(id))) {
        throw new HoldfastError('caller_not_found', `There is no stored model '${id}'.`);
      }
      await routing.refresh();
      return reply.status(204).send();
    },
  );
};

function toJson(entry: CatalogueModel, { providers }: RoutingTable): z.infer<typeof model> {
  const { price: current, priceChanges } = pricedAt(entry, Date.now());
  return {
    id: entry.id,
    aliases: [...entry.aliases],
    providers: [...providers.values()].flatMap(({ name, vendor }) => {
      const id = entry.vendors.get(vendor);
      return id === undefined ? [] : [{ provider: name, model: id }];
    }),
    vendors: Object.fromEntries(entry.vendors),
    context_window: entry.contextWindow,
    max_output_tokens: entry.maxOutputTokens,
    price: { ...toPriceJson(current), valid_until: priceChanges[0]?.from ?? null },
    price_changes: priceChanges.map(({ from, price }, i) => ({
      ...toPriceJson(price),
      valid_from: from,
      valid_until: priceChanges[i + 1]?.from ?? null,
    })),
    capabilities: [...entry.capabilities],
    source: entry.source,
  };
}

const toPriceJson = ({ batch, ...tiered }: Price) => ({
  ...toTieredJson(tiered),
  ...(batch && { batch: toTieredJson(batch) }),
});

const toTieredJson = ({ longContext, ...base }: TieredRates) => ({
  ...toRatesJson(base),
  ...(longContext && { long_context: { ...toRatesJson(longContext), above: longContext.above } }),
});

const toRatesJson = ({ input, output, cachedInput, cacheWrite, ...rest }: Rates): z.infer<typeof rates> => ({
  input: toDollars(input),
  output: toDollars(output),
  cached_input: toDollars(cachedInput),
  cache_write: toDollars(cacheWrite),
  ...(rest.reasoning !== undefined && { reasoning: toDollars(rest.reasoning) }),
  ...(rest.audioInput !== undefined && { audio_input: toDollars(rest.audioInput) }),
  ...(rest.audioOutput !== undefined && { audio_output: toDollars(rest.audioOutput) }),
  ...(rest.image !== undefined && { image: toDollars(rest.image) }),
});
