import { jwtVerify, SignJWT } from 'jose';
import { unauthenticated } from './api-keys.ts';

/** The `iss` of our own tokens. */
export const SESSION_ISSUER = 'urn:holdfast:session';

/** Seconds. */
export const SESSION_LIFETIME = 3_600;

const ALGORITHM = 'HS256';

/** Short-lived tokens that stand for an API key, so that a browser need not keep the key. */
export interface Sessions {
  /** @param subject `master` or the id of a virtual key. */
  issue(subject: string): Promise<string>;
  /** The subject. Throws `caller_unauthenticated`. */
  verify(token: string): Promise<string>;
}

export function createSessions(key: Uint8Array): Sessions {
  return {
    issue: (subject) =>
      new SignJWT()
        .setProtectedHeader({ alg: ALGORITHM })
        .setIssuer(SESSION_ISSUER)
        .setSubject(subject)
        .setIssuedAt()
        .setExpirationTime(`${SESSION_LIFETIME}s`)
        .sign(key),
    async verify(token) {
      const options = { issuer: SESSION_ISSUER, algorithms: [ALGORITHM], requiredClaims: ['sub', 'exp'] };
      const verified = await jwtVerify(token, key, options).catch(() => {
        throw unauthenticated('This session is not valid or has expired. Log in again.');
      });
      return verified.payload.sub ?? '';
    },
  };
}
