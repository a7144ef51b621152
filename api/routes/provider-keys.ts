import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import type { ProviderKey } from '../../storage/postgres/provider-keys.ts';
import { secret, toSecret } from './mapped-provider-keys.ts';
import type { Routes } from './route.ts';

const name = z.string().min(1).max(200);
const weight = z.int().min(1).max(1_000_000);
const state = z.enum(['active', 'disabled']);

const entity = z.object({
  id: z.string(),
  hint: z.string(),
  region: z.string().nullable(),
  team: z.string().nullable(),
  virtual_key_id: z.string().nullable(),
  weight: z.number(),
  state,
  benched_until: z.date().nullable(),
  bench_reason: z.string().nullable(),
  created_at: z.date(),
});

const provider = z.object({
  provider: z.string(),
  type: z.string(),
  label: z.string(),
  region: z.string().nullable(),
  default_model: z.string().nullable(),
  capabilities: z.array(z.string()),
  keys: z.array(entity),
});

/** The keys with which the gateway calls providers. They come in here and never out again. */
export const providerKeys: Routes = async (app, { providers, providerKeys, virtualKeys }) => {
  const needs = 'providers:manage';
  const tags = ['provider keys'];

  const list = {
    summary: 'Configured providers and their stored keys',
    tags,
    response: { 200: z.object({ data: z.array(provider) }) },
  };
  app.get('/config/providers', { config: { needs }, schema: list }, async () => {
    const keys = await providerKeys.list();
    const data = [...providers.values()].map((adapter) => ({
      provider: adapter.name,
      type: adapter.type,
      label: adapter.label,
      region: adapter.region ?? null,
      default_model: adapter.defaultModel ?? null,
      capabilities: [...adapter.capabilities],
      keys: keys.filter((key) => key.provider === adapter.name).map(toJson),
    }));
    return { data };
  });

  const create = {
    summary: 'Store a key of a provider; it is used within a second',
    tags,
    params: z.object({ provider: z.string() }),
    body: z.strictObject({
      /** For Bedrock `accessKeyId:secretAccessKey`, or JSON with these fields. */
      key: secret,
      region: name.nullish(),
      team: name.nullish(),
      virtualKeyId: z.string().nullish(),
      weight: weight.default(1),
    }),
    response: { 201: entity },
  };
  app.post(
    '/config/providers/:provider/keys',
    { config: { needs, audit: 'provider_key.create' }, schema: create },
    async ({ params, body }, reply) => {
      if (!providers.has(params.provider)) throw notFound(`provider '${params.provider}'`);
      const { key, region = null, team = null, virtualKeyId = null, weight } = body;
      const sealable = toSecret(providers, params.provider, key, 'key');
      if (virtualKeyId !== null && !(await virtualKeys.get(virtualKeyId))) {
        throw new HoldfastError('caller_invalid_request', `There is no virtual key '${virtualKeyId}'.`, {
          param: 'virtualKeyId',
        });
      }
      const made = { provider: params.provider, region, team, virtualKeyId, weight, ...sealable };
      return reply.status(201).send(toJson(await providerKeys.create(made)));
    },
  );

  const byId = { params: z.object({ provider: z.string(), id: z.string() }) };
  const update = {
    summary: 'Change a stored key; a new `key` takes its place within a second, and ends its bench',
    tags,
    ...byId,
    body: z.strictObject({
      key: secret.optional(),
      region: name.nullish(),
      team: name.nullish(),
      weight: weight.optional(),
      state: state.optional(),
    }),
    response: { 200: entity },
  };
  app.patch(
    '/config/providers/:provider/keys/:id',
    { config: { needs, audit: 'provider_key.update' }, schema: update },
    async ({ params, body }) => {
      const { key, ...settings } = body;
      const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
      const sealable = key === undefined ? {} : toSecret(providers, params.provider, key, 'key');
      const changed = await providerKeys.update(params.provider, params.id, { ...given, ...sealable });
      if (!changed) throw notFound(`key '${params.id}' of provider '${params.provider}'`);
      return toJson(changed);
    },
  );

  const remove = { summary: 'Delete a stored key; calls under way finish with it', tags, ...byId };
  app.delete(
    '/config/providers/:provider/keys/:id',
    { config: { needs, audit: 'provider_key.delete' }, schema: remove },
    async ({ params }, reply) => {
      if (!(await providerKeys.remove(params.provider, params.id))) {
        throw notFound(`key '${params.id}' of provider '${params.provider}'`);
      }
      return reply.status(204).send();
    },
  );
};

const notFound = (what: string) => new HoldfastError('caller_not_found', `There is no ${what}.`);

const toJson = (key: ProviderKey): z.infer<typeof entity> => ({
  id: key.id,
  hint: key.hint,
  region: key.region,
  team: key.team,
  virtual_key_id: key.virtualKeyId,
  weight: key.weight,
  state: key.state,
  benched_until: key.benchedUntil,
  bench_reason: key.benchReason,
  created_at: key.createdAt,
});
