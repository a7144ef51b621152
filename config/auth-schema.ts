import { z } from 'zod';
import { ROLES } from '../domain/roles.ts';

const role = z.enum(ROLES);
const name = z.string().min(1).max(200);
const path = z.string().min(1);

const issuer = z.strictObject({
  /** The `iss` of its tokens, to the letter. */
  issuer: z.string().min(1),
  /** The `aud` (or one of them) that its tokens must have. */
  audience: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]),
  /** Where its public keys are. */
  jwks_url: z.url({ protocol: /^https?$/ }),
  /** Claim names, or dotted paths such as `realm_access.roles`. */
  claims: z
    .strictObject({
      team: path.optional(),
      project: path.optional(),
      user: path.default('sub'),
      roles: path.optional(),
    })
    .prefault({}),
  /** Value of the roles claim → role here. */
  roles: z.record(z.string(), role).default({}),
  /** For tokens whose claim gives none. */
  default_roles: z.array(role).default([]),
});

const subject = z.strictObject({
  team: name.optional(),
  project: name.optional(),
  user: name.optional(),
  roles: z.array(role).min(1),
});

export const authSchema = z.strictObject({
  /** Issuers of bearer tokens. */
  jwt: z
    .array(issuer)
    .default([])
    .refine((issuers) => new Set(issuers.map((entry) => entry.issuer)).size === issuers.length, 'each issuer once'),
  mtls: z
    .strictObject({
      /** A client certificate's URI, DNS name or common name → who that is. */
      subjects: z.record(name, subject).default({}),
    })
    .prefault({}),
});

/** Files in PEM. */
export const tlsSchema = z
  .strictObject({
    cert: path,
    key: path,
    /** Who signs the certificates that callers may show. */
    client_ca: path.optional(),
    /** Turn connections without one away, /health included. */
    require_client_cert: z.boolean().default(false),
  })
  .refine((tls) => tls.client_ca !== undefined || !tls.require_client_cert, {
    path: ['client_ca'],
    message: 'is needed to require client certificates',
  });

export type AuthConfig = z.output<typeof authSchema>;
export type JwtIssuer = AuthConfig['jwt'][number];
export type ClientSubjects = AuthConfig['mtls']['subjects'];
export type TlsConfig = z.output<typeof tlsSchema>;
