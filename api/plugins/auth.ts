import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { LRUCache } from 'lru-cache';
import { HoldfastError } from '../../domain/errors.ts';
import { isVirtualKey, type VirtualKey, type VirtualKeys } from '../../storage/postgres/virtual-keys.ts';

/** Who may call a route. `admin` is the master key. */
export type Access = 'public' | 'key' | 'admin';

export interface AuthenticatedCaller {
  readonly keyId: string | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string | null;
  /** undefined for the master key. */
  readonly key: VirtualKey | undefined;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set on every route that is not public. */
    caller: AuthenticatedCaller;
  }
  interface FastifyContextConfig {
    /** @default 'key' */
    access?: Access;
  }
}

export interface AuthOptions {
  readonly masterKey: string;
  readonly virtualKeys: VirtualKeys;
}

/** Milliseconds a key is remembered; a revoked key works no longer than this. */
const KEY_CACHE_MS = 1_000;
const KEY_CACHE_SIZE = 10_000;

const MASTER: AuthenticatedCaller = { keyId: null, team: null, project: null, user: null, key: undefined };

/** Authenticates by bearer token: the master key or a virtual key. A database that is down is a 503, never a 401. */
export const auth = fp<AuthOptions>(
  async (app, { masterKey, virtualKeys }) => {
    const masterHash = sha256(masterKey);
    const known = new LRUCache<string, { readonly key: VirtualKey | undefined }>({
      max: KEY_CACHE_SIZE,
      ttl: KEY_CACHE_MS,
    });

    async function findKey(token: string): Promise<VirtualKey | undefined> {
      const cached = known.get(token);
      if (cached) return cached.key;
      const key = isVirtualKey(token) ? await virtualKeys.findByKey(token) : undefined;
      known.set(token, { key });
      return key;
    }

    async function authenticate(request: FastifyRequest): Promise<AuthenticatedCaller> {
      const token = bearerToken(request);
      if (timingSafeEqual(sha256(token), masterHash)) return MASTER;
      const key = await findKey(token);
      if (!key) throw unauthenticated('Incorrect API key provided.');
      if (!key.isActive) throw unauthenticated('This API key is not active.');
      if (key.expiresAt && key.expiresAt.getTime() <= Date.now()) throw unauthenticated('This API key has expired.');
      return { keyId: key.id, team: key.team, project: key.project, user: key.user, key };
    }

    app.decorateRequest('caller', null as unknown as AuthenticatedCaller);
    app.addHook('onRequest', async (request) => {
      const access = request.routeOptions.config.access ?? 'key';
      if (access === 'public' || request.is404) return;
      request.caller = await authenticate(request);
      if (access === 'admin' && request.caller.key) {
        throw new HoldfastError('caller_forbidden', 'This endpoint needs the master key.');
      }
    });
  },
  { name: 'auth' },
);

function bearerToken(request: FastifyRequest): string {
  const header = request.headers.authorization;
  if (!header) throw unauthenticated('You did not provide an API key. Send it as: Authorization: Bearer YOUR_KEY');
  const match = /^Bearer\s+(\S+)$/i.exec(header);
  if (!match?.[1]) throw unauthenticated('The Authorization header must be: Bearer YOUR_KEY');
  return match[1];
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
const unauthenticated = (message: string) => new HoldfastError('caller_unauthenticated', message);
