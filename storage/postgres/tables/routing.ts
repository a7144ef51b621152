import type { ColumnType, Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

export interface EncryptionKeysTable {
  /** 8 bytes in hex, part of everything the key sealed. */
  id: string;
  /** The data key, wrapped by the key-encryption key `kek_id`. */
  wrapped: Buffer;
  kek_id: string;
  created_at: Timestamp;
}

export interface ProviderKeysTable {
  id: string;
  provider: string;
  /** null for every region. */
  region: string | null;
  /** null for every team. */
  team: string | null;
  /** Set on a key that only calls of this virtual key use. */
  virtual_key_id: string | null;
  weight: number;
  sealed: Buffer;
  /** Counts the keys that this row held. */
  revision: Generated<number>;
  /** The last characters, to recognise the key by. */
  hint: string;
  state: Generated<ProviderKeyState>;
  benched_until: Date | null;
  bench_reason: string | null;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export type ProviderKeyState = 'active' | 'disabled';

/** Models that operators stored; each replaces the catalogue's of the same id. */
export interface ModelsTable {
  id: string;
  /** As in a models file. */
  entry: ColumnType<unknown, string, string>;
  created_at: Timestamp;
  updated_at: Timestamp;
}

/** The one row that says what the database lays over the config. */
export interface RoutingOverlayTable {
  /** Grows with every change of this row and of `models`. */
  version: ColumnType<number, number | undefined, number>;
  /** Routing; null where gateway.yaml decides, as in `settings`. */
  policy: ColumnType<unknown, string | null, string | null>;
  settings: ColumnType<unknown, string | null, string | null>;
}
