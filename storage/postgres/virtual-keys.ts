import { createHash, randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { newId } from '../../domain/ids.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Sql } from './database.ts';
import { THIS_MONTH } from './reservations.ts';

/** What an administrator sets on a key. null removes a limit. */
export interface VirtualKeySettings {
  readonly name: string;
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
  /** Per calendar month, UTC. */
  readonly costCapNanos: NanoDollars | null;
  readonly defaultModel: string | null;
  /** null allows every model. */
  readonly allowedModels: readonly string[] | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string | null;
  readonly isActive: boolean;
  readonly expiresAt: Date | null;
}

export interface VirtualKey extends VirtualKeySettings {
  readonly id: string;
  /** The first characters of the key, to recognise it by. */
  readonly prefix: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** This month. */
  readonly spentNanos: NanoDollars;
  readonly reservedNanos: NanoDollars;
}

const KEY_PREFIX = 'sk-hf-';
const SECRET_BYTES = 32;
const SHOWN_CHARACTERS = 12;

/** Keys have 256 bits of entropy, so one round of SHA-256 is as safe as any slow hash. */
const hash = (key: string): Buffer => createHash('sha256').update(key).digest();

export const isVirtualKey = (token: string): boolean => token.startsWith(KEY_PREFIX);

/** Virtual keys. Only the hash of a key is stored; the key itself is seen once, when it is made. */
export class VirtualKeys {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  async create(settings: VirtualKeySettings): Promise<{ readonly entity: VirtualKey; readonly key: string }> {
    const key = KEY_PREFIX + randomBytes(SECRET_BYTES).toString('base64url');
    const id = newId('vk');
    await this.db
      .insertInto('virtual_keys')
      .values({ id, key_hash: hash(key), key_prefix: key.slice(0, SHOWN_CHARACTERS), ...toColumns(settings) })
      .execute();
    return { entity: (await this.get(id)) as VirtualKey, key };
  }

  get(id: string): Promise<VirtualKey | undefined> {
    return this.select(sql`k.id = ${id}`).then((keys) => keys[0]);
  }

  /** The entity of a key as a caller presents it; inactive and expired ones included. */
  findByKey(key: string): Promise<VirtualKey | undefined> {
    return this.select(sql`k.key_hash = ${hash(key)}`).then((keys) => keys[0]);
  }

  /** Keys after `cursor` (an id), oldest first. */
  list(limit: number, cursor: string | undefined): Promise<readonly VirtualKey[]> {
    return this.select(cursor ? sql`k.id > ${cursor}` : sql`true`, limit);
  }

  async update(id: string, changes: Partial<VirtualKeySettings>): Promise<VirtualKey | undefined> {
    await this.db
      .updateTable('virtual_keys')
      .set({ ...toColumns(changes), updated_at: new Date() })
      .where('id', '=', id)
      .execute();
    return this.get(id);
  }

  /** true if there was one. */
  async remove(id: string): Promise<boolean> {
    const { numDeletedRows } = await this.db.deleteFrom('virtual_keys').where('id', '=', id).executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  }

  private async select(condition: ReturnType<typeof sql>, limit = 1): Promise<readonly VirtualKey[]> {
    const { rows } = await sql<KeyRow>`
      SELECT k.*, coalesce(c.spent_nanos, 0) AS spent_nanos, coalesce(c.reserved_nanos, 0) AS reserved_nanos
      FROM virtual_keys k
      LEFT JOIN spend_counters c
        ON c.scope_type = 'key' AND c.scope_id = k.id AND c.period_start = ${THIS_MONTH}
      WHERE ${condition} ORDER BY k.id LIMIT ${limit}`.execute(this.db);
    return rows.map(toEntity);
  }
}

interface KeyRow {
  readonly id: string;
  readonly name: string;
  readonly key_prefix: string;
  readonly requests_per_minute: number | null;
  readonly tokens_per_minute: number | null;
  readonly cost_cap_nanos: number | null;
  readonly default_model: string | null;
  readonly allowed_models: string[] | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user_id: string | null;
  readonly is_active: boolean;
  readonly expires_at: Date | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly spent_nanos: number;
  readonly reserved_nanos: number;
}

const COLUMNS = {
  name: 'name',
  requestsPerMinute: 'requests_per_minute',
  tokensPerMinute: 'tokens_per_minute',
  costCapNanos: 'cost_cap_nanos',
  defaultModel: 'default_model',
  allowedModels: 'allowed_models',
  team: 'team',
  project: 'project',
  user: 'user_id',
  isActive: 'is_active',
  expiresAt: 'expires_at',
} as const satisfies Record<keyof VirtualKeySettings, string>;

type Columns<T> = { [K in keyof T as K extends keyof typeof COLUMNS ? (typeof COLUMNS)[K] : never]: T[K] };

const toColumns = <T extends Partial<VirtualKeySettings>>(settings: T): Columns<T> =>
  Object.fromEntries(
    Object.entries(settings).map(([field, value]) => [COLUMNS[field as keyof VirtualKeySettings], value]),
  ) as Columns<T>;

const toEntity = (row: KeyRow): VirtualKey => ({
  id: row.id,
  name: row.name,
  prefix: row.key_prefix,
  requestsPerMinute: row.requests_per_minute,
  tokensPerMinute: row.tokens_per_minute,
  costCapNanos: row.cost_cap_nanos,
  defaultModel: row.default_model,
  allowedModels: row.allowed_models,
  team: row.team,
  project: row.project,
  user: row.user_id,
  isActive: row.is_active,
  expiresAt: row.expires_at,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  spentNanos: row.spent_nanos,
  reservedNanos: row.reserved_nanos,
});
