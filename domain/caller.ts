import type { VirtualKeyKind } from '../storage/postgres/tables/tenants.ts';

/** `user`: a person by a token of an identity provider. `client`: a service by its certificate. */
export type CallerKind = 'master' | 'key' | 'user' | 'client';

/** Who asks for a model call, as far as planning and counting it go. Plain data, so that background work can keep it. */
export interface Caller {
  readonly kind: CallerKind;
  /** `master`, the id of a key, `user:…` or `client:…`: one name for one caller, as the audit log has it. */
  readonly actor: string;
  /** Whose its requests are: its team's, else its own. Only the master key's are `master`. */
  readonly owner: string;
  readonly keyId: string | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string | null;
  /** undefined for callers without a virtual key. */
  readonly key: KeyRules | undefined;
}

/** What a virtual key says about the calls made with it. */
export interface KeyRules {
  readonly kind: VirtualKeyKind;
  readonly name: string;
  readonly defaultModel: string | null;
  /** null allows every model. */
  readonly allowedModels: readonly string[] | null;
  /** Only providers of this zone may serve it. */
  readonly privacyZone: string | null;
}

export function toCaller({ kind, actor, owner, keyId, team, project, user, key }: Caller): Caller {
  const rules = key && {
    kind: key.kind,
    name: key.name,
    defaultModel: key.defaultModel,
    allowedModels: key.allowedModels,
    privacyZone: key.privacyZone,
  };
  return { kind, actor, owner, keyId, team, project, user, key: rules };
}
