import type { RouteOptions } from 'fastify';
import fp from 'fastify-plugin';
import { HoldfastError } from '../../domain/errors.ts';
import type { Permission } from '../../domain/roles.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import type { AuthenticatedCaller } from '../auth/caller.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set on every route that is not public. */
    caller: AuthenticatedCaller;
  }
  interface FastifyContextConfig {
    /** The permission a caller needs. A route has this or `access`. */
    needs?: Permission;
    /** `public`: anybody may call it. `authenticated`: everybody who is somebody. */
    access?: 'public' | 'authenticated';
  }
}

/** Lets in who may come in: each route says whom by `needs` or `access`, and one that says nothing is not registered. */
export const auth = fp<{ readonly authenticator: Authenticator }>(
  async (app, { authenticator }) => {
    app.decorateRequest('caller', null as unknown as AuthenticatedCaller);
    app.addHook('onRoute', requireDeclaration);
    app.addHook('onRequest', async (request) => {
      const { needs, access } = request.routeOptions.config;
      if (access === 'public' || request.is404) return;
      request.caller = await authenticator.authenticate(request);
      if (needs === undefined || request.caller.permissions.has(needs)) return;
      throw new HoldfastError('caller_forbidden', `This needs the permission '${needs}'.`);
    });
  },
  { name: 'auth' },
);

function requireDeclaration({ method, url, config }: RouteOptions): void {
  if ((config?.needs === undefined) !== (config?.access === undefined)) return;
  throw new Error(`${method} ${url} must say in its config what it needs, or that its access is public.`);
}
