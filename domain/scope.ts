/** Whom limits, budgets and costs are kept for. In the order in which their counters are locked. */
export const SCOPE_TYPES = ['key', 'organisation', 'project', 'team', 'user'] as const;

export type ScopeType = (typeof SCOPE_TYPES)[number];

export interface Scope {
  readonly type: ScopeType;
  readonly id: string;
}

/** For whom a request is counted. All null for the master key's own requests. */
export interface Attribution {
  readonly keyId: string | null;
  readonly organisation: string | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string | null;
}

export const NOBODY: Attribution = { keyId: null, organisation: null, team: null, project: null, user: null };

/** The scopes a request counts in. */
export function scopesOf({ keyId, organisation, project, team, user }: Attribution): readonly Scope[] {
  const ids: Record<ScopeType, string | null> = { key: keyId, organisation, project, team, user };
  return SCOPE_TYPES.flatMap((type) => {
    const id = ids[type];
    return id === null ? [] : [{ type, id }];
  });
}
