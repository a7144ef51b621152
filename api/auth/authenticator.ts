import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { AuthConfig } from '../../config/auth-schema.ts';
import { toRoles } from '../../domain/roles.ts';
import type { Tenants } from '../../storage/postgres/tenants.ts';
import type { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { createApiKeys, unauthenticated } from './api-keys.ts';
import { type AuthenticatedCaller, keyCaller, MASTER, namedCaller } from './caller.ts';
import { createCertificateReader } from './client-certificate.ts';
import { createJwtVerifier, issuerOf, looksLikeJwt } from './jwt.ts';
import { remembered } from './remembered.ts';
import { sessionKey } from './session-key.ts';
import { createSessions, SESSION_ISSUER } from './sessions.ts';

export interface AuthenticatorOptions {
  readonly masterKey: string;
  /** 32 bytes in hex; sessions are signed with a key derived from it. */
  readonly encryptionKey: string;
  readonly virtualKeys: VirtualKeys;
  readonly tenants: Tenants;
  readonly config: AuthConfig;
  readonly logger: Logger;
}

export interface Authenticator {
  /** Who makes a request. Throws `caller_unauthenticated`, or `gateway_unavailable` when that cannot be found out. */
  authenticate(request: FastifyRequest): Promise<AuthenticatedCaller>;
  /** A session for the master key or a virtual key. */
  login(apiKey: string): Promise<{ readonly caller: AuthenticatedCaller; readonly token: string }>;
}

/** Every way in: API keys, sessions, tokens of identity providers, client certificates. */
export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { masterKey, encryptionKey, virtualKeys, tenants, config, logger } = options;
  const masterHash = sha256(masterKey);
  const apiKeys = createApiKeys(virtualKeys);
  const sessions = createSessions(sessionKey(encryptionKey, masterKey));
  const verifyJwt = createJwtVerifier(config.jwt, logger);
  const fromCertificate = createCertificateReader(config.mtls.subjects);
  const findUser = remembered((id) => tenants.get('users', id));

  /** Users need not be registered; one who is can be switched off and given roles. */
  async function registered(user: string): Promise<readonly string[]> {
    const row = await findUser(user);
    if (row?.is_active === false) throw unauthenticated('This user is not active.');
    return row?.roles ?? [];
  }

  const byApiKey = async (token: string): Promise<AuthenticatedCaller> =>
    timingSafeEqual(sha256(token), masterHash) ? MASTER : keyCaller(await apiKeys.byToken(token));

  async function bySession(token: string): Promise<AuthenticatedCaller> {
    const subject = await sessions.verify(token);
    return subject === MASTER.actor ? MASTER : keyCaller(await apiKeys.byId(subject));
  }

  async function byJwt(token: string): Promise<AuthenticatedCaller> {
    const identity = await verifyJwt(token);
    const roles = toRoles([...identity.roles, ...(await registered(identity.user))]);
    return namedCaller('user', identity.user, { ...identity, roles });
  }

  async function byCertificate(request: FastifyRequest): Promise<AuthenticatedCaller> {
    const caller = fromCertificate(request.raw.socket);
    if (!caller) {
      throw unauthenticated('You did not provide an API key. Send it as: Authorization: Bearer YOUR_KEY');
    }
    if (caller.user !== null) await registered(caller.user);
    return caller;
  }

  return {
    async authenticate(request) {
      const header = request.headers.authorization;
      if (!header) return byCertificate(request);
      const token = /^Bearer\s+(\S+)$/i.exec(header)?.[1];
      if (!token) throw unauthenticated('The Authorization header must be: Bearer YOUR_KEY');
      if (!looksLikeJwt(token) || timingSafeEqual(sha256(token), masterHash)) return byApiKey(token);
      return issuerOf(token) === SESSION_ISSUER ? bySession(token) : byJwt(token);
    },
    async login(apiKey) {
      const caller = await byApiKey(apiKey);
      return { caller, token: await sessions.issue(caller.actor) };
    },
  };
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
