import { platformSettingsSchema, storedSettingsSchema } from '../../config/gateway-schema.ts';
import type { Routes } from './route.ts';
import { serveStoredPart } from './stored-part.ts';

/** What of gateway.yaml can change while the gateway runs. */
export const settings: Routes = async (app, deps) =>
  serveStoredPart(app, deps, {
    path: '/api/v1/settings',
    part: 'settings',
    name: 'Settings',
    tags: ['settings'],
    target: 'settings',
    body: storedSettingsSchema,
    inForce: platformSettingsSchema,
    read: (routing) => routing.settings,
  });
