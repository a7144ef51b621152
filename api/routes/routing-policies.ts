import { z } from 'zod';
import { providersNamed, type RoutingPolicy, routingPolicySchema } from '../../config/gateway-schema.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { RoutingTable } from '../../domain/route-plan.ts';
import type { ApiDeps } from '../context.ts';
import type { Routes } from './route.ts';
import { serveStoredPart } from './stored-part.ts';

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
});

/** Default provider, fallback and aliases, and what operators store over those of gateway.yaml. */
export const routingPolicies: Routes = async (app, deps) =>
  serveStoredPart(app, deps, {
    path: '/api/v1/routing-policies',
    part: 'policy',
    name: 'Routing',
    tags: ['routing'],
    target: 'routing_policy',
    body: routingPolicySchema,
    inForce: policy,
    check: (wanted) => requireProviders(deps, wanted),
    read: ({ table }) => toJson(table),
  });

function requireProviders({ config, providers }: Pick<ApiDeps, 'config' | 'providers'>, wanted: RoutingPolicy): void {
  for (const { name, path } of providersNamed(wanted)) {
    if (!config.gateway.providers[name]) throw unknownProvider(name, path, 'is not in gateway.yaml');
  }
  const { default_provider } = wanted;
  if (default_provider !== undefined && !providers.has(default_provider)) {
    throw unknownProvider(default_provider, ['default_provider'], 'is disabled or its key is empty');
  }
}

function unknownProvider(name: string, path: readonly PropertyKey[], problem: string): HoldfastError {
  const param = path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i > 0 ? '.' : ''}${String(key)}`));
  return new HoldfastError('caller_invalid_request', `The provider '${name}' ${problem}.`, { param: param.join('') });
}

function toJson(table: RoutingTable): z.infer<typeof policy> {
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
  };
}
