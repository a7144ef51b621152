import { HoldfastError } from '../../domain/errors.ts';
import { permissionsOf, toRoles } from '../../domain/roles.ts';
import type { Tenants } from '../../storage/postgres/tenants.ts';
import type { VirtualKeySettings } from '../../storage/postgres/virtual-keys.ts';
import type { AuthenticatedCaller } from './caller.ts';

type Grant = Pick<VirtualKeySettings, 'kind' | 'team' | 'project' | 'user' | 'roles'>;

/**
 * Nobody gives a key more than he has: no permission that he lacks, and, belonging to a team, no other team, nothing that
 * is another team's, and no leave to speak for others. What the key has already stays. Throws `caller_forbidden`.
 */
export async function requireGrantable(
  caller: AuthenticatedCaller,
  before: Grant | undefined,
  after: Grant,
  tenants: Tenants,
): Promise<void> {
  const had = before ? permissionsOf(toRoles(before.roles), before.team) : new Set();
  for (const permission of permissionsOf(toRoles(after.roles), after.team)) {
    if (had.has(permission) || caller.permissions.has(permission)) continue;
    throw forbidden(`You cannot give the permission '${permission}'.`, 'roles');
  }
  const { team } = caller;
  if (team === null) return;
  if (after.team !== team) throw forbidden(`You manage the keys of team '${team}' only.`, 'team');
  if (after.kind === 'service' && before?.kind !== 'service') {
    throw forbidden('A service key may speak for other teams; you cannot make one.', 'kind');
  }
  for (const [field, table] of [
    ['project', 'projects'],
    ['user', 'users'],
  ] as const) {
    const id = after[field];
    if (id === null || id === before?.[field]) continue;
    const row = await tenants.get(table, id);
    if (row && row.team !== team) throw forbidden(`The ${field} '${id}' is not of team '${team}'.`, field);
  }
}

const forbidden = (message: string, param: string) => new HoldfastError('caller_forbidden', message, { param });
