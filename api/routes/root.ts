import { z } from 'zod';
import type { Routes } from './route.ts';

export const root: Routes = async (app, { providers, version, isReady }) => {
  const schema = {
    summary: 'Service status',
    tags: ['status'],
    response: {
      200: z.object({ service: z.string(), version: z.string(), status: z.string(), providers: z.array(z.string()) }),
    },
  };
  app.get('/', { config: { access: 'public' }, schema }, () => ({
    service: 'Holdfast',
    version,
    status: isReady() ? 'running' : 'stopping',
    providers: [...providers.keys()],
  }));
};
