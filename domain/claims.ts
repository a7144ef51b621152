import { HoldfastError } from './errors.ts';
import { type Role, toRoles } from './roles.ts';

/** Where an issuer's tokens say who the caller is: claim names, or dotted paths into nested claims. */
export interface ClaimMapping {
  readonly claims: {
    readonly team?: string | undefined;
    readonly project?: string | undefined;
    readonly user: string;
    readonly roles?: string | undefined;
  };
  /** Value of the roles claim → role. Values that are not named here give none. */
  readonly roles: Readonly<Record<string, Role>>;
  /** For tokens whose claim gives none. */
  readonly default_roles: readonly Role[];
}

export interface ClaimedIdentity {
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string;
  readonly roles: readonly Role[];
}

type Claims = Readonly<Record<string, unknown>>;

const MAX_LENGTH = 200;

/** Who a verified token speaks for. Throws `caller_unauthenticated` when a claim cannot be understood. */
export function identityOfClaims(claims: Claims, { claims: names, ...mapping }: ClaimMapping): ClaimedIdentity {
  const user = textClaim(claims, names.user);
  if (user === null) throw unusable(names.user);
  return {
    team: names.team === undefined ? null : textClaim(claims, names.team),
    project: names.project === undefined ? null : textClaim(claims, names.project),
    user,
    roles: rolesOf(names.roles === undefined ? undefined : claimAt(claims, names.roles), mapping),
  };
}

/** A claim of that whole name (names may have dots, as URLs do), else the one at that path. */
function claimAt(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path];
  return path
    .split('.')
    .reduce<unknown>(
      (value, name) =>
        typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as Claims)[name] : undefined,
      claims,
    );
}

/** null when it is not there. One of another shape is refused: a caller must not lose its team by a malformed claim. */
function textClaim(claims: Claims, path: string): string | null {
  const value = claimAt(claims, path);
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' && value !== '' && value.length <= MAX_LENGTH) return value;
  throw unusable(path);
}

function rolesOf(claim: unknown, { roles, default_roles }: Omit<ClaimMapping, 'claims'>): readonly Role[] {
  const known = new Map(Object.entries(roles));
  const mapped = toRoles(valuesOf(claim).flatMap((value) => known.get(value) ?? []));
  return mapped.length > 0 ? mapped : default_roles;
}

/** A list, one value, or several separated by spaces as in OAuth's `scope`. */
function valuesOf(claim: unknown): readonly string[] {
  if (Array.isArray(claim)) return claim.filter((value) => typeof value === 'string');
  return typeof claim === 'string' ? [claim, ...claim.split(' ')] : [];
}

const unusable = (claim: string) =>
  new HoldfastError('caller_unauthenticated', `The token's claim '${claim}' is missing or not a text.`);
