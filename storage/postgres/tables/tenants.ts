import type { ColumnType, Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

/** A `service` key may say in a request's metadata for whom it is; a `user` key speaks for itself. */
export type VirtualKeyKind = 'user' | 'service';

export interface VirtualKeysTable {
  id: string;
  name: string;
  /** SHA-256 of the key. */
  key_hash: Buffer;
  /** The first characters, to recognise a key by. */
  key_prefix: string;
  kind: Generated<VirtualKeyKind>;
  roles: Generated<readonly string[]>;
  metadata: ColumnType<Record<string, unknown>, string | undefined, string>;
  privacy_zone: string | null;
  default_model: string | null;
  /** null allows every model. */
  allowed_models: readonly string[] | null;
  team: string | null;
  project: string | null;
  user_id: string | null;
  is_active: Generated<boolean>;
  expires_at: Date | null;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface OrganisationsTable {
  id: string;
  name: string;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface TeamsTable extends OrganisationsTable {
  organisation: string | null;
  markup_percent: ColumnType<string, number | undefined, number>;
}

export interface ProjectsTable extends OrganisationsTable {
  team: string | null;
}

export interface UsersTable extends OrganisationsTable {
  email: string | null;
  team: string | null;
  roles: Generated<readonly string[]>;
  is_active: Generated<boolean>;
}

export interface AuditLogTable {
  /** Time-ordered. */
  id: string;
  at: Timestamp;
  actor: string;
  actor_roles: readonly string[];
  action: string;
  target_type: string;
  target_id: string | null;
  changes: ColumnType<Record<string, unknown>, string, never>;
  request_id: string;
  ip: string;
}
