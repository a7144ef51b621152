import { sql } from 'kysely';
import type { ErrorCode } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import type { Cipher } from '../cipher.ts';
import type { Sql } from './database.ts';
import type { ProviderKeyState } from './tables/routing.ts';

/** Who may use a key, and how often it is chosen among its like. */
export interface ProviderKeySettings {
  /** null for every region. */
  readonly region: string | null;
  /** null for every team. */
  readonly team: string | null;
  readonly weight: number;
  readonly state: ProviderKeyState;
}

export interface Secret {
  readonly secret: string;
  /** Its last characters. */
  readonly hint: string;
}

export interface NewProviderKey extends Omit<ProviderKeySettings, 'state'>, Secret {
  readonly provider: string;
  /** Set on a key that only calls of this virtual key use. */
  readonly virtualKeyId: string | null;
}

/** A stored key as administrators see it: without the key. */
export interface ProviderKey extends ProviderKeySettings {
  readonly id: string;
  readonly provider: string;
  readonly virtualKeyId: string | null;
  readonly hint: string;
  /** Not used before; null when it never failed or was set right since. */
  readonly benchedUntil: Date | null;
  readonly benchReason: ErrorCode | null;
  readonly createdAt: Date;
}

/** A key that calls may use, with what to choose by. */
export interface UsableKey extends Omit<ProviderKeySettings, 'state'> {
  readonly id: string;
  /** Counts the keys that the row held; another one was put in when it changes. */
  readonly revision: number;
  readonly virtualKeyId: string | null;
  readonly sealed: Buffer;
  /** Milliseconds it stays benched, by the database's clock; 0 for a key that is free. */
  readonly benchedForMs: number;
  readonly benchReason: ErrorCode | null;
}

export interface MappedKey extends Secret {
  readonly provider: string;
}

/** The keys of providers, sealed. They leave only through `open`, on their way into a call. */
export class ProviderKeys {
  private readonly db: Sql;
  private readonly cipher: Cipher;

  constructor(db: Sql, cipher: Cipher) {
    this.db = db;
    this.cipher = cipher;
  }

  async create(key: NewProviderKey): Promise<ProviderKey> {
    const row = await this.db
      .insertInto('provider_keys')
      .values(this.toRow(key))
      .returning(SHOWN)
      .executeTakeFirstOrThrow();
    return toEntity(row);
  }

  /** All keys, oldest first. */
  async list(): Promise<readonly ProviderKey[]> {
    const rows = await this.db.selectFrom('provider_keys').select(SHOWN).orderBy('id').execute();
    return rows.map(toEntity);
  }

  /** Changes a key; a new secret or state ends its bench. undefined if there is none. */
  async update(
    provider: string,
    id: string,
    { secret, hint, ...settings }: Partial<ProviderKeySettings & Secret>,
  ): Promise<ProviderKey | undefined> {
    const row = await this.db
      .updateTable('provider_keys')
      .set({ ...settings, updated_at: new Date() })
      .$if(secret !== undefined, (query) =>
        query.set({ sealed: this.seal(secret ?? ''), hint: hint ?? '', revision: sql`revision + 1` }),
      )
      .$if(secret !== undefined || settings.state !== undefined, (query) =>
        query.set({ benched_until: null, bench_reason: null }),
      )
      .where('provider', '=', provider)
      .where('id', '=', id)
      .returning(SHOWN)
      .executeTakeFirst();
    return row && toEntity(row);
  }

  /** true if there was one. */
  async remove(provider: string, id: string): Promise<boolean> {
    const { numDeletedRows } = await this.db
      .deleteFrom('provider_keys')
      .where('provider', '=', provider)
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  }

  /** Gives a virtual key these keys of its own, in place of the ones it had. */
  async replaceForVirtualKey(virtualKeyId: string, keys: readonly MappedKey[]): Promise<void> {
    const rows = keys.map((key) => this.toRow({ ...key, virtualKeyId, region: null, team: null, weight: 1 }));
    await this.db.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('provider_keys').where('virtual_key_id', '=', virtualKeyId).execute();
      if (rows.length > 0) await transaction.insertInto('provider_keys').values(rows).execute();
    });
  }

  /** The keys of their own that virtual keys have, by the virtual key's id. */
  async mappedTo(virtualKeyIds: readonly string[]): Promise<ReadonlyMap<string, readonly Omit<MappedKey, 'secret'>[]>> {
    if (virtualKeyIds.length === 0) return new Map();
    const rows = await this.db
      .selectFrom('provider_keys')
      .select(['virtual_key_id', 'provider', 'hint'])
      .where('virtual_key_id', 'in', virtualKeyIds)
      .orderBy('id')
      .execute();
    const mapped = new Map<string, Omit<MappedKey, 'secret'>[]>(virtualKeyIds.map((id) => [id, []]));
    for (const { virtual_key_id, ...key } of rows) mapped.get(virtual_key_id ?? '')?.push(key);
    return mapped;
  }

  /** The active keys of a provider. */
  async usable(provider: string): Promise<readonly UsableKey[]> {
    const rows = await this.db
      .selectFrom('provider_keys')
      .select(['id', 'revision', 'region', 'team', 'virtual_key_id', 'weight', 'sealed', 'bench_reason'])
      .select(
        sql<number>`greatest(0, extract(epoch FROM coalesce(benched_until, now()) - now()) * 1000)::float8`.as(
          'benched_for_ms',
        ),
      )
      .where('provider', '=', provider)
      .where('state', '=', 'active')
      .orderBy('id')
      .execute();
    return rows.map(({ virtual_key_id, benched_for_ms, bench_reason, ...row }) => ({
      ...row,
      virtualKeyId: virtual_key_id,
      benchedForMs: benched_for_ms,
      benchReason: bench_reason as ErrorCode | null,
    }));
  }

  /** The key itself. */
  async open({ sealed }: UsableKey): Promise<string> {
    return (await this.cipher.decrypt(sealed)).toString();
  }

  /** Keeps a key from being used for a while. false if it was removed or another put in its place meanwhile. */
  async bench(id: string, revision: number, forMs: number, reason: ErrorCode): Promise<boolean> {
    const { numAffectedRows } = await sql`
      UPDATE provider_keys
      SET benched_until = now() + ${Math.ceil(forMs)}::bigint * interval '1 millisecond', bench_reason = ${reason}
      WHERE id = ${id} AND revision = ${revision}`.execute(this.db);
    return numAffectedRows === 1n;
  }

  private seal(secret: string): Buffer {
    return this.cipher.encrypt(Buffer.from(secret));
  }

  private toRow({ provider, region, team, virtualKeyId, weight, secret, hint }: NewProviderKey) {
    const sealed = this.seal(secret);
    return { id: newId('pk'), provider, region, team, virtual_key_id: virtualKeyId, weight, sealed, hint };
  }
}

const SHOWN = [
  'id',
  'provider',
  'region',
  'team',
  'virtual_key_id',
  'weight',
  'hint',
  'state',
  'benched_until',
  'bench_reason',
  'created_at',
] as const;

interface ShownRow {
  readonly id: string;
  readonly provider: string;
  readonly region: string | null;
  readonly team: string | null;
  readonly virtual_key_id: string | null;
  readonly weight: number;
  readonly hint: string;
  readonly state: ProviderKeyState;
  readonly benched_until: Date | null;
  readonly bench_reason: string | null;
  readonly created_at: Date;
}

const toEntity = ({ virtual_key_id, benched_until, bench_reason, created_at, ...row }: ShownRow): ProviderKey => ({
  ...row,
  virtualKeyId: virtual_key_id,
  benchedUntil: benched_until,
  benchReason: bench_reason as ErrorCode | null,
  createdAt: created_at,
});
