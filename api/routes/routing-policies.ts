import { z } from 'zod';
import { providersNamed, routingPolicySchema } from '../../config/gateway-schema.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { LiveRouting } from '../live-routing.ts';
import type { Routes } from './route.ts';

const policy = z.object({
  default_provider: z.string(),
  fallback: z.object({
    enabled: z.boolean(),
    fallback_order: z.array(z.string()),
    max_fallback_attempts: z.number(),
    retry_original: z.boolean(),
  }),
  /** Alias → ordered targets. */
  models: z.record(z.string(), z.array(z.object({ provider: z.string(), model: z.string() }))),
  /** Sections that are stored; the others are gateway.yaml's. */
  stored: z.array(z.string()),
});

/** Default provider, fallback and aliases, and what operators store over those of gateway.yaml. */
export const routingPolicies: Routes = async (app, { routing, overlays, config, providers }) => {
  const needs = 'settings:manage';
  const tags = ['routing'];

  const read = { summary: 'Routing as it is in force', tags, response: { 200: policy } };
  app.get('/api/v1/routing-policies', { config: { needs }, schema: read }, () => toJson(routing));

  const put = {
    summary: 'Store routing over gateway.yaml',
    description:
      'A section that is given replaces gateway.yaml’s as a whole, one that is left out is gateway.yaml’s again. ' +
      'Every process goes by it within a second.',
    tags,
    body: routingPolicySchema,
    response: { 200: policy },
  };
  app.put(
    '/api/v1/routing-policies',
    { config: { needs, audit: 'routing_policy.put' }, schema: put },
    async ({ body }) => {
      for (const { name, path } of providersNamed(body)) {
        if (!config.gateway.providers[name]) throw unknownProvider(name, path, 'is not in gateway.yaml');
      }
      const wanted = body.default_provider;
      if (wanted !== undefined && !providers.has(wanted)) {
        throw unknownProvider(wanted, ['default_provider'], 'is disabled or its key is empty');
      }
      await overlays.putPolicy(body);
      await routing.refresh();
      return toJson(routing);
    },
  );

  const remove = { summary: 'Go back to gateway.yaml', tags };
  app.delete(
    '/api/v1/routing-policies',
    { config: { needs, audit: 'routing_policy.delete' }, schema: remove },
    async (_request, reply) => {
      await overlays.putPolicy(null);
      await routing.refresh();
      return reply.status(204).send();
    },
  );
};

function unknownProvider(name: string, path: readonly PropertyKey[], problem: string): HoldfastError {
  const param = path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i > 0 ? '.' : ''}${String(key)}`));
  return new HoldfastError('caller_invalid_request', `The provider '${name}' ${problem}.`, { param: param.join('') });
}

function toJson({ table, policy: stored }: LiveRouting): z.infer<typeof policy> {
  const { enabled, order, maxTargets, retryOriginal } = table.fallback;
  return {
    default_provider: table.defaultProvider,
    fallback: {
      enabled,
      fallback_order: [...order],
      max_fallback_attempts: maxTargets,
      retry_original: retryOriginal,
    },
    models: Object.fromEntries([...table.aliases].map(([alias, targets]) => [alias, [...targets]])),
    stored: Object.keys(stored ?? {}),
  };
}
