import type { Caller } from '../../domain/caller.ts';
import { PERMISSIONS, type Permission, permissionsOf, type Role, toRoles } from '../../domain/roles.ts';
import { type Scope, scopesOf } from '../../domain/scope.ts';
import type { Visible } from '../../storage/postgres/requests.ts';
import type { VirtualKey } from '../../storage/postgres/virtual-keys.ts';

/** Who makes a request, however that was proven. */
export interface AuthenticatedCaller extends Caller {
  readonly roles: readonly Role[];
  readonly permissions: ReadonlySet<Permission>;
  readonly key: VirtualKey | undefined;
}

export const MASTER: AuthenticatedCaller = {
  kind: 'master',
  actor: 'master',
  owner: 'master',
  keyId: null,
  team: null,
  project: null,
  user: null,
  roles: ['admin'],
  permissions: new Set(PERMISSIONS),
  key: undefined,
};

export function keyCaller(key: VirtualKey): AuthenticatedCaller {
  const { id, team, project, user } = key;
  const roles = toRoles(key.roles);
  const who = { keyId: id, team, project, user, roles, permissions: permissionsOf(roles, team) };
  return { kind: 'key', actor: id, owner: team ? `team:${team}` : `key:${id}`, ...who, key };
}

interface Identity {
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string | null;
  readonly roles: readonly Role[];
}

/** @param name The user's id, or the certificate's name. */
export function namedCaller(kind: 'user' | 'client', name: string, identity: Identity): AuthenticatedCaller {
  const { team, user, roles } = identity;
  const actor = `${kind}:${name}`;
  const self = user === null ? actor : `user:${user}`;
  const owner = team === null ? self : `team:${team}`;
  return { ...identity, kind, actor, owner, keyId: null, permissions: permissionsOf(roles, team), key: undefined };
}

/**
 * What a caller may see: undefined for everything, else what belongs to this owner and, for a caller of a project, to
 * the project. Everything is for the master key and for admins without a team and project; whoever belongs to one is
 * kept to it.
 */
export function visibleTo({ kind, team, project, roles, owner }: AuthenticatedCaller): Visible | undefined {
  if (kind === 'master') return undefined;
  if (project !== null) return { owner, project };
  return team === null && roles.includes('admin') ? undefined : { owner };
}

/** Who a caller is as a person. Whoever has several keys is one; keys of a team that are nobody's count as one as well. */
export function personOf({ kind, user, actor, owner }: Pick<Caller, 'kind' | 'user' | 'actor' | 'owner'>): string {
  if (user !== null) return `user:${user}`;
  return kind === 'key' ? owner : actor;
}

/** What a caller may build on: its own, even where it may see more. Only the master key builds on everybody's. */
export const ownOf = ({ kind, owner, project }: Caller): Visible | undefined =>
  kind === 'master' ? undefined : { owner, ...(project !== null && { project }) };

/** Whose budgets a caller may see: undefined for everybody's, else its own and its team's. */
export const visibleScopes = (caller: AuthenticatedCaller): readonly Scope[] | undefined =>
  visibleTo(caller) === undefined ? undefined : scopesOf({ ...caller, organisation: null });
