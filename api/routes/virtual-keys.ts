import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { fromDollars, toDollars } from '../../domain/money.ts';
import { ROLES } from '../../domain/roles.ts';
import { DEFAULT_SETTINGS, type VirtualKey, type VirtualKeySettings } from '../../storage/postgres/virtual-keys.ts';
import { requireGrantable } from '../auth/grants.ts';
import { cursor, limit } from '../schemas/common.ts';
import { mappedKeys, mappedProviderKeys, type ShownMappedKeys, shownMappedKeys } from './mapped-provider-keys.ts';
import type { Routes } from './route.ts';

const name = z.string().min(1).max(200);
const perMinute = z.int().positive();
const count = z.number().nullable();

const settings = z.strictObject({
  name,
  /** A `service` key may say in a request's `metadata` for which team, project and user it is. */
  kind: z.enum(['user', 'service']).optional(),
  /** Requests and tokens per minute, requests at the same time. */
  rateLimit: z
    .strictObject({ rpm: perMinute.nullish(), tpm: perMinute.nullish(), concurrent: perMinute.nullish() })
    .nullish(),
  /** USD per calendar month (UTC). */
  costCap: z.number().min(0).max(1_000_000).nullish(),
  defaultModel: z.string().nullish(),
  /** Names that requests may use: aliases, models, or `provider/model`. */
  allowedModels: z.array(z.string()).min(1).nullish(),
  team: name.nullish(),
  project: name.nullish(),
  user: name.nullish(),
  /** What it may do; by default a developer's part. */
  roles: z.array(z.enum(ROLES)).optional(),
  metadata: z.record(z.string().max(100), z.unknown()).optional(),
  /** Only providers of this zone may serve it. */
  privacyZone: name.nullish(),
  isActive: z.boolean().optional(),
  expiresAt: z.iso.datetime({ offset: true }).nullish(),
  mappedProviderKeys: mappedProviderKeys.nullish(),
});

const entity = z.object({
  id: z.string(),
  name: z.string(),
  prefix: z.string(),
  kind: z.enum(['user', 'service']),
  rateLimit: z.object({ rpm: count, tpm: count, concurrent: count }),
  costCap: z.number().nullable(),
  spentUsd: z.number(),
  reservedUsd: z.number(),
  defaultModel: z.string().nullable(),
  allowedModels: z.array(z.string()).nullable(),
  team: z.string().nullable(),
  project: z.string().nullable(),
  user: z.string().nullable(),
  roles: z.array(z.string()),
  metadata: z.record(z.string(), z.unknown()),
  privacyZone: z.string().nullable(),
  isActive: z.boolean(),
  expiresAt: z.date().nullable(),
  createdAt: z.date(),
  updatedAt: z.date(),
  mappedProviderKeys: shownMappedKeys,
});

/** Virtual keys (seed 004's entity). */
export const virtualKeys: Routes = async (app, { virtualKeys, providerKeys, providers, tenants }) => {
  const mapped = mappedKeys(providerKeys, providers);
  const needs = 'keys:manage';
  const byId = { params: z.object({ id: z.string() }) };
  const tags = ['virtual keys'];

  const create = {
    summary: 'Make a virtual key; the key itself is shown this once',
    tags,
    body: settings,
    response: { 201: entity.extend({ key: z.string() }) },
  };
  app.post(
    '/config/virtual-keys',
    { config: { needs, audit: 'virtual_key.create' }, schema: create },
    async (request, reply) => {
      const { body, caller } = request;
      const keys = mapped.parse(body.mappedProviderKeys);
      const wanted = { ...DEFAULT_SETTINGS, team: caller.team, ...toSettings(body), name: body.name };
      await requireGrantable(caller, undefined, wanted, tenants);
      const made = await virtualKeys.create(wanted);
      if (keys) await providerKeys.replaceForVirtualKey(made.entity.id, keys);
      return reply.status(201).send({ ...toJson(made.entity, await mapped.of(made.entity)), key: made.key });
    },
  );

  const list = {
    summary: 'Virtual keys, oldest first',
    tags,
    querystring: z.object({ limit, cursor }),
    response: { 200: z.object({ data: z.array(entity), next_cursor: z.string().nullable() }) },
  };
  app.get('/config/virtual-keys', { config: { needs }, schema: list }, async ({ query, caller }) => {
    const keys = await virtualKeys.list(query.limit + 1, query.cursor, caller.team);
    const shown = keys.slice(0, query.limit);
    const mappedOf = await mapped.ofAll(shown);
    const data = shown.map((key) => toJson(key, mappedOf(key)));
    return { data, next_cursor: keys.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = { summary: 'One virtual key', tags, ...byId, response: { 200: entity } };
  app.get('/config/virtual-keys/:id', { config: { needs }, schema: read }, async ({ params, caller }) => {
    const key = await virtualKeys.get(params.id, caller.team);
    if (!key) throw notFound(params.id);
    return toJson(key, await mapped.of(key));
  });

  const update = {
    summary: 'Change a virtual key',
    tags,
    ...byId,
    body: settings.partial(),
    response: { 200: entity },
  };
  app.patch(
    '/config/virtual-keys/:id',
    { config: { needs, audit: 'virtual_key.update' }, schema: update },
    async (request) => {
      const { params, body, caller } = request;
      const before = await virtualKeys.get(params.id, caller.team);
      if (!before) throw notFound(params.id);
      const keys = mapped.parse(body.mappedProviderKeys);
      const changes = toSettings(body);
      await requireGrantable(caller, before, { ...before, ...changes }, tenants);
      const key = await virtualKeys.update(params.id, changes);
      if (!key) throw notFound(params.id);
      if (keys) await providerKeys.replaceForVirtualKey(key.id, keys);
      return toJson(key, await mapped.of(key));
    },
  );

  const remove = { summary: 'Delete a virtual key; it stops working within a second', tags, ...byId };
  app.delete(
    '/config/virtual-keys/:id',
    { config: { needs, audit: 'virtual_key.delete' }, schema: remove },
    async (request, reply) => {
      const { params, caller } = request;
      const key = await virtualKeys.get(params.id, caller.team);
      if (!key || !(await virtualKeys.remove(params.id))) throw notFound(params.id);
      return reply.status(204).send();
    },
  );
};

const notFound = (id: string) => new HoldfastError('caller_not_found', `There is no virtual key '${id}'.`);

type Settings = z.infer<typeof settings>;

/** The fields that were given; null clears one. */
function toSettings(body: { readonly [K in keyof Settings]?: Settings[K] | undefined }): Partial<VirtualKeySettings> {
  const { rateLimit, costCap, expiresAt, mappedProviderKeys: _stored, ...rest } = body;
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  return {
    ...given,
    ...(rateLimit !== undefined && {
      requestsPerMinute: rateLimit?.rpm ?? null,
      tokensPerMinute: rateLimit?.tpm ?? null,
      concurrentRequests: rateLimit?.concurrent ?? null,
    }),
    ...(costCap !== undefined && { costCapNanos: costCap === null ? null : fromDollars(costCap) }),
    ...(expiresAt !== undefined && { expiresAt: expiresAt === null ? null : new Date(expiresAt) }),
  };
}

const toJson = (key: VirtualKey, mappedProviderKeys: ShownMappedKeys): z.infer<typeof entity> => ({
  id: key.id,
  name: key.name,
  prefix: key.prefix,
  kind: key.kind,
  rateLimit: { rpm: key.requestsPerMinute, tpm: key.tokensPerMinute, concurrent: key.concurrentRequests },
  costCap: key.costCapNanos === null ? null : toDollars(key.costCapNanos),
  spentUsd: toDollars(key.spentNanos),
  reservedUsd: toDollars(key.reservedNanos),
  defaultModel: key.defaultModel,
  allowedModels: key.allowedModels ? [...key.allowedModels] : null,
  team: key.team,
  project: key.project,
  user: key.user,
  roles: [...key.roles],
  metadata: { ...key.metadata },
  privacyZone: key.privacyZone,
  isActive: key.isActive,
  expiresAt: key.expiresAt,
  createdAt: key.createdAt,
  updatedAt: key.updatedAt,
  mappedProviderKeys,
});
