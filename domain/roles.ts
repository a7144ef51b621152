/** What a caller may be allowed to do. Each route names one. */
export const PERMISSIONS = [
  'models:call',
  'ledger:read',
  'runs:operate',
  'approvals:decide',
  'keys:manage',
  'budgets:manage',
  'tenants:manage',
  'providers:manage',
  'settings:manage',
  'audit:read',
] as const;

export type Permission = (typeof PERMISSIONS)[number];

export const ROLES = ['admin', 'operator', 'approver', 'developer', 'viewer'] as const;

export type Role = (typeof ROLES)[number];

const ROLE_PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  admin: PERMISSIONS,
  operator: ['ledger:read', 'runs:operate'],
  approver: ['ledger:read', 'approvals:decide'],
  developer: ['models:call', 'ledger:read'],
  viewer: ['ledger:read'],
};

/** What reaches beyond a team, or limits it. Nobody who belongs to one has these, an admin of a team neither. */
const GATEWAY_WIDE: ReadonlySet<Permission> = new Set([
  'budgets:manage',
  'tenants:manage',
  'providers:manage',
  'settings:manage',
  'audit:read',
]);

const isRole = (name: string): name is Role => (ROLES as readonly string[]).includes(name);

/** The roles among `names`, each once. Names that are no role count for nothing. */
export const toRoles = (names: readonly string[]): readonly Role[] => [...new Set(names.filter(isRole))];

/** What `roles` allow a caller of `team`. */
export function permissionsOf(roles: readonly Role[], team: string | null): ReadonlySet<Permission> {
  const all = roles.flatMap((role) => ROLE_PERMISSIONS[role]);
  return new Set(team === null ? all : all.filter((permission) => !GATEWAY_WIDE.has(permission)));
}
