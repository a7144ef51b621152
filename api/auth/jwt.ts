import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeJwt,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';
import type { Logger } from 'pino';
import type { JwtIssuer } from '../../config/auth-schema.ts';
import { type ClaimedIdentity, identityOfClaims } from '../../domain/claims.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { unauthenticated } from './api-keys.ts';

/** Only what is verified by a public key: a shared secret could be the public key itself (RFC 8725, 2.1). */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];
/** Seconds by which clocks may differ. */
const CLOCK_TOLERANCE = 30;
const RETRY_AFTER_MS = 5_000;

/** Three parts, as no API key of ours has. */
export const looksLikeJwt = (token: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(token);

/** The issuer a token names; nothing is verified yet. */
export function issuerOf(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}

/** Verifies tokens of the configured issuers. Throws `caller_unauthenticated`, or `gateway_unavailable` without keys. */
export function createJwtVerifier(
  issuers: readonly JwtIssuer[],
  logger: Logger,
): (token: string) => Promise<ClaimedIdentity> {
  const known = new Map(issuers.map((issuer) => [issuer.issuer, { issuer, keys: keysOf(issuer, logger) }]));
  return async (token) => {
    const trusted = known.get(issuerOf(token) ?? '');
    if (!trusted) throw unauthenticated('The token is of no issuer that this gateway knows.');
    const { issuer, keys } = trusted;
    return identityOfClaims(await verify(token, issuer, keys), issuer);
  };
}

async function verify(token: string, { issuer, audience }: JwtIssuer, keys: JWTVerifyGetKey): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer,
      audience,
      algorithms: ALGORITHMS,
      clockTolerance: CLOCK_TOLERANCE,
      requiredClaims: ['exp'],
    });
    return payload;
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    throw unauthenticated(problemOf(error));
  }
}

function problemOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'The token has expired.';
  if (error instanceof errors.JWTClaimValidationFailed) return `The token's claim '${error.claim}' is not accepted.`;
  return 'The token is not valid.';
}

/** What is wrong with the token rather than with the way to the keys. */
const OF_THE_TOKEN = [errors.JWKSNoMatchingKey, errors.JWKSMultipleMatchingKeys, errors.JOSENotSupported];

/**
 * An issuer's public keys, cached. jose asks again when they are 10 minutes old or a token names another key, but not
 * twice within 30 s. While the issuer cannot be asked, the keys it last gave stay good.
 */
function keysOf({ issuer, jwks_url }: JwtIssuer, logger: Logger): JWTVerifyGetKey {
  const remote = createRemoteJWKSet(new URL(jwks_url));
  return async (header, token) => {
    try {
      return await remote(header, token);
    } catch (error) {
      if (OF_THE_TOKEN.some((kind) => error instanceof kind)) throw error;
      logger.warn({ err: error, issuer }, 'The public keys of a token issuer cannot be read');
      const last = remote.jwks();
      const key = last && (await createLocalJWKSet(last)(header, token).catch(() => undefined));
      if (key) return key;
      throw new HoldfastError('gateway_unavailable', 'The issuer of the token cannot be asked for its keys.', {
        retryAfterMs: RETRY_AFTER_MS,
        cause: error,
      });
    }
  };
}
