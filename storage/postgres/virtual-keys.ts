import { createHash, randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { newId } from '../../domain/ids.ts';
import type { NanoDollars } from '../../domain/money.ts';
import { Budgets } from './budgets.ts';
import type { Sql } from './database.ts';
import { RateLimits } from './rate-limits.ts';
import { periodStart } from './spend-counters.ts';
import type { VirtualKeyKind } from './tables/tenants.ts';

/** What an administrator sets on a key. null removes a limit. */
export interface VirtualKeySettings {
  readonly name: string;
  readonly kind: VirtualKeyKind;
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
  readonly concurrentRequests: number | null;
  /** Its hard monthly budget, UTC. */
  readonly costCapNanos: NanoDollars | null;
  readonly roles: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Only providers of this zone may serve it. */
  readonly privacyZone: string | null;
  readonly defaultModel: string | null;
  /** null allows every model. */
  readonly allowedModels: readonly string[] | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user: string | null;
  readonly isActive: boolean;
  readonly expiresAt: Date | null;
}

/** A developer's key without limits. */
export const DEFAULT_SETTINGS: Omit<VirtualKeySettings, 'name'> = {
  kind: 'user',
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrentRequests: null,
  costCapNanos: null,
  roles: ['developer'],
  metadata: {},
  privacyZone: null,
  defaultModel: null,
  allowedModels: null,
  team: null,
  project: null,
  user: null,
  isActive: true,
  expiresAt: null,
};

export interface VirtualKey extends VirtualKeySettings {
  readonly id: string;
  /** The first characters of the key, to recognise it by. */
  readonly prefix: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** false once the user it belongs to was switched off. */
  readonly userIsActive: boolean;
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
    await this.db.transaction().execute(async (db) => {
      await registerTenants(db, settings);
      const secret = { id, key_hash: hash(key), key_prefix: key.slice(0, SHOWN_CHARACTERS) };
      const { name } = settings;
      await db
        .insertInto('virtual_keys')
        .values({
          ...secret,
          name,
          privacy_zone: null,
          default_model: null,
          team: null,
          project: null,
          user_id: null,
          ...toColumns(settings),
        })
        .execute();
      await this.setLimits(db, id, settings);
    });
    return { entity: (await this.get(id)) as VirtualKey, key };
  }

  /** @param team Of this team only. */
  get(id: string, team?: string | null): Promise<VirtualKey | undefined> {
    return this.select(sql`k.id = ${id} AND ${ofTeam(team)}`).then((keys) => keys[0]);
  }

  /** The entity of a key as a caller presents it; inactive and expired ones included. */
  findByKey(key: string): Promise<VirtualKey | undefined> {
    return this.select(sql`k.key_hash = ${hash(key)}`).then((keys) => keys[0]);
  }

  /** Keys after `cursor` (an id), oldest first; of one team, if one is given. */
  list(limit: number, cursor: string | undefined, team?: string | null): Promise<readonly VirtualKey[]> {
    return this.select(sql`${cursor ? sql`k.id > ${cursor}` : sql`true`} AND ${ofTeam(team)}`, limit);
  }

  async update(id: string, changes: Partial<VirtualKeySettings>): Promise<VirtualKey | undefined> {
    await this.db.transaction().execute(async (db) => {
      const key = await db.selectFrom('virtual_keys').select('team').where('id', '=', id).executeTakeFirst();
      if (!key) return;
      await registerTenants(db, { team: key.team, ...changes });
      const { numUpdatedRows } = await db
        .updateTable('virtual_keys')
        .set({ ...toColumns(changes), updated_at: new Date() })
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      if (numUpdatedRows > 0n) await this.setLimits(db, id, changes);
    });
    return this.get(id);
  }

  /** true if there was one. Its limits go with it. */
  remove(id: string): Promise<boolean> {
    return this.db.transaction().execute(async (db) => {
      const { numDeletedRows } = await db.deleteFrom('virtual_keys').where('id', '=', id).executeTakeFirstOrThrow();
      for (const table of ['budgets', 'rate_limits'] as const) {
        await db.deleteFrom(table).where('scope_type', '=', 'key').where('scope_id', '=', id).execute();
      }
      return numDeletedRows > 0n;
    });
  }

  private async setLimits(db: Sql, id: string, settings: Partial<VirtualKeySettings>): Promise<void> {
    const { costCapNanos, requestsPerMinute, tokensPerMinute, concurrentRequests } = settings;
    if (costCapNanos !== undefined) await new Budgets(db).setCostCap(id, costCapNanos);
    const changes = { requestsPerMinute, tokensPerMinute, concurrentRequests };
    if (Object.values(changes).some((limit) => limit !== undefined)) {
      await new RateLimits(db).set({ type: 'key', id }, changes);
    }
  }

  private async select(condition: ReturnType<typeof sql>, limit = 1): Promise<readonly VirtualKey[]> {
    const { rows } = await sql<KeyRow>`
      SELECT k.*, b.limit_nanos AS cost_cap_nanos, l.requests_per_minute, l.tokens_per_minute, l.concurrent_requests,
             coalesce(u.is_active, true) AS user_is_active, coalesce(c.spent_nanos, 0) AS spent_nanos, coalesce(c.reserved_nanos, 0) AS reserved_nanos
      FROM virtual_keys k
      LEFT JOIN users u ON u.id = k.user_id
      LEFT JOIN spend_counters c ON (c.scope_type, c.scope_id, c.period) = ('key', k.id, 'monthly')
        AND c.period_start = ${periodStart(sql`'monthly'`, sql`now()`)}
      LEFT JOIN budgets b ON (b.scope_type, b.scope_id, b.period, b.kind) = ('key', k.id, 'monthly', 'hard')
      LEFT JOIN rate_limits l ON (l.scope_type, l.scope_id) = ('key', k.id)
      WHERE ${condition} ORDER BY k.id LIMIT ${limit}`.execute(this.db);
    return rows.map(toEntity);
  }
}

/** Teams, projects and users come into being with the first key that names them. */
async function registerTenants(db: Sql, { team, project, user }: Partial<VirtualKeySettings>): Promise<void> {
  if (team) {
    await db
      .insertInto('teams')
      .values({ id: team, name: team, organisation: null })
      .onConflict((c) => c.doNothing())
      .execute();
  }
  if (project) {
    const row = { id: project, name: project, team: team ?? null };
    await db
      .insertInto('projects')
      .values(row)
      .onConflict((c) => c.doNothing())
      .execute();
  }
  if (user) {
    const row = { id: user, name: user, email: null, team: team ?? null };
    await db
      .insertInto('users')
      .values(row)
      .onConflict((c) => c.column('id').doNothing())
      .execute();
  }
}

const ofTeam = (team: string | null | undefined) => (team ? sql`k.team = ${team}` : sql`true`);

interface KeyRow {
  readonly id: string;
  readonly name: string;
  readonly key_prefix: string;
  readonly kind: VirtualKeyKind;
  readonly roles: string[];
  readonly metadata: Record<string, unknown>;
  readonly privacy_zone: string | null;
  readonly requests_per_minute: number | null;
  readonly tokens_per_minute: number | null;
  readonly concurrent_requests: number | null;
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
  readonly user_is_active: boolean;
  readonly spent_nanos: number;
  readonly reserved_nanos: number;
}

const toColumns = (settings: Partial<VirtualKeySettings>) => {
  const { name, kind, roles, metadata, privacyZone, defaultModel, allowedModels, team, project, user } = settings;
  const { isActive, expiresAt } = settings;
  const columns = {
    name,
    kind,
    roles,
    metadata: metadata && JSON.stringify(metadata),
    privacy_zone: privacyZone,
    default_model: defaultModel,
    allowed_models: allowedModels,
    team,
    project,
    user_id: user,
    is_active: isActive,
    expires_at: expiresAt,
  };
  return Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== undefined)) as {
    [K in keyof typeof columns]?: Exclude<(typeof columns)[K], undefined>;
  };
};

const toEntity = (row: KeyRow): VirtualKey => ({
  id: row.id,
  name: row.name,
  prefix: row.key_prefix,
  kind: row.kind,
  roles: row.roles,
  metadata: row.metadata,
  privacyZone: row.privacy_zone,
  requestsPerMinute: row.requests_per_minute,
  tokensPerMinute: row.tokens_per_minute,
  concurrentRequests: row.concurrent_requests,
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
  userIsActive: row.user_is_active,
  spentNanos: row.spent_nanos,
  reservedNanos: row.reserved_nanos,
});
