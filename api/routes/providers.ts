import { z } from 'zod';
import type { Routes } from './route.ts';

export const providers: Routes = async (app, { providers, routing }) => {
  const provider = z.object({
    provider: z.string(),
    models: z.array(z.string()),
    default_model: z.string().nullable(),
    region: z.string().optional(),
  });
  const schema = {
    summary: 'Configured providers and their models',
    tags: ['status'],
    response: { 200: z.record(z.string(), provider) },
  };
  app.get('/providers', { config: { access: 'authenticated' }, schema }, () => {
    const entries = [...providers.values()].map((adapter) => {
      const catalogued = routing.table.catalogue
        .servedBy(adapter.vendor)
        .map((model) => model.vendors.get(adapter.vendor) ?? model.id);
      const models = [...new Set([...(adapter.defaultModel ? [adapter.defaultModel] : []), ...catalogued])];
      const entry = {
        provider: adapter.label,
        models,
        default_model: adapter.defaultModel ?? null,
        ...(adapter.region && { region: adapter.region }),
      };
      return [adapter.name, entry] as const;
    });
    return Object.fromEntries(entries);
  });
};
