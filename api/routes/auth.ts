import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { PERMISSIONS, ROLES } from '../../domain/roles.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { SESSION_LIFETIME } from '../auth/sessions.ts';

const roles = z.array(z.enum(ROLES));
const text = z.string().nullable();

/** Sessions, and who one is. */
export const authentication: FastifyPluginAsyncZod<{ readonly authenticator: Authenticator }> = async (
  app,
  { authenticator },
) => {
  const login = {
    summary: 'Exchange an API key for a token that lasts an hour, as long as the key is good',
    tags: ['access'],
    body: z.strictObject({ api_key: z.string().min(1).max(1_000) }),
    response: {
      200: z.object({
        access_token: z.string(),
        token_type: z.literal('bearer'),
        /** Seconds. */
        expires_in: z.number(),
        user: z.object({ id: z.string(), roles, team: text }),
      }),
    },
  };
  app.post('/auth/login', { config: { access: 'public' }, schema: login }, async ({ body }, reply) => {
    const { caller, token } = await authenticator.login(body.api_key);
    return reply.header('cache-control', 'no-store').send({
      access_token: token,
      token_type: 'bearer',
      expires_in: SESSION_LIFETIME,
      user: { id: caller.actor, roles: [...caller.roles], team: caller.team },
    });
  });

  const me = {
    summary: 'Who the caller is and what it may do',
    tags: ['access'],
    response: {
      200: z.object({
        id: z.string(),
        kind: z.enum(['master', 'key', 'user', 'client']),
        team: text,
        project: text,
        user: text,
        roles,
        permissions: z.array(z.enum(PERMISSIONS)),
      }),
    },
  };
  app.get('/auth/me', { config: { access: 'authenticated' }, schema: me }, ({ caller }) => ({
    id: caller.actor,
    kind: caller.kind,
    team: caller.team,
    project: caller.project,
    user: caller.user,
    roles: [...caller.roles],
    permissions: PERMISSIONS.filter((permission) => caller.permissions.has(permission)),
  }));
};
