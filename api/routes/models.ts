import { z } from 'zod';
import type { RoutingTable } from '../../domain/route-plan.ts';
import type { Routes } from './route.ts';

export const models: Routes = async (app, { routing }) => {
  const schema = {
    summary: 'Models and aliases a request can name',
    tags: ['models'],
    response: {
      200: z.object({
        object: z.literal('list'),
        data: z.array(
          z.object({ id: z.string(), object: z.literal('model'), created: z.number(), owned_by: z.string() }),
        ),
      }),
    },
  };
  app.get('/v1/models', { config: { access: 'authenticated' }, schema }, (request) => {
    const { table } = routing;
    const created = Math.floor(Date.parse(table.catalogue.priceDate) / 1000);
    const allowed = request.caller.key?.allowedModels;
    const data = [...listModels(table)]
      .filter(([id]) => !allowed || allowed.includes(id))
      .map(([id, owned_by]) => ({ id, object: 'model' as const, created, owned_by }));
    return { object: 'list' as const, data };
  });
};

/** Model name → who serves it: usable aliases first, then the configured providers' models. */
function listModels(routing: RoutingTable): Map<string, string> {
  const names = new Map<string, string>();
  for (const [alias, targets] of routing.aliases) {
    if (targets.some((target) => routing.providers.has(target.provider))) names.set(alias, 'holdfast');
  }
  for (const provider of routing.providers.values()) {
    const served = routing.catalogue.servedBy(provider.vendor).map((model) => model.id);
    for (const id of [...served, ...(provider.defaultModel ? [provider.defaultModel] : [])]) {
      if (!names.has(id)) names.set(id, provider.name);
    }
  }
  return names;
}
