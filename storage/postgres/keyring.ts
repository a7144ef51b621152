import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { HoldfastError } from '../../domain/errors.ts';
import { type Cipher, createCipher, type KeyCipher } from '../cipher.ts';
import { type Kek, openKek } from '../keks.ts';
import type { Sql } from './database.ts';

/** What a data key sealed: version (1 byte), the key's id (8), then as `createCipher` has it. */
const VERSION = 2;
const ID_BYTES = 8;
const HEADER_BYTES = 1 + ID_BYTES;
const KEY_BYTES = 32;

export interface KekSources {
  /** Wraps data keys from now on; see `openKek`. */
  readonly current: string;
  /** Earlier ones, for unwrapping only. */
  readonly previous: readonly string[];
}

interface DataKey {
  readonly id: string;
  readonly cipher: KeyCipher;
}

/**
 * Envelope encryption. Everything is sealed with the newest data key of `encryption_keys`, where data keys are wrapped
 * by the key-encryption key, so that the latter may live in a service and be changed without touching what is stored.
 */
export class Keyring implements Cipher {
  private readonly db: Sql;
  private readonly keks: readonly Kek[];
  private readonly known = new Map<string, DataKey>();
  private newest: DataKey;

  private constructor(db: Sql, keks: readonly Kek[], newest: DataKey) {
    this.db = db;
    this.keks = keks;
    this.newest = newest;
    this.known.set(newest.id, newest);
  }

  /** Makes the first data key if there is none. Throws when no key of `sources` unwraps the newest. */
  static async open(db: Sql, sources: KekSources): Promise<Keyring> {
    const keks = await Promise.all([sources.current, ...sources.previous].map(openKek));
    const row = (await newestRow(db)) ?? (await insertKey(db, keks[0] as Kek, 'first'));
    return new Keyring(db, keks, await unwrap(row, keks));
  }

  /**
   * Wraps every data key with the current key-encryption key, and makes a new one for what is sealed by processes that
   * start from now on. The previous key-encryption keys are not needed afterwards, except for data of version 1.
   */
  async rotate(): Promise<{ readonly rewrapped: number }> {
    const current = this.keks[0] as Kek;
    const rows = await this.db.selectFrom('encryption_keys').selectAll().where('kek_id', '<>', current.id).execute();
    for (const row of rows) {
      const wrapped = await current.wrap(await unwrapKey(row, this.keks));
      await this.db
        .updateTable('encryption_keys')
        .set({ wrapped, kek_id: current.id })
        .where('id', '=', row.id)
        .execute();
    }
    this.newest = await unwrap(await insertKey(this.db, current, 'another'), this.keks);
    this.known.set(this.newest.id, this.newest);
    return { rewrapped: rows.length };
  }

  encrypt(plain: Buffer): Buffer {
    const { id, cipher } = this.newest;
    return Buffer.concat([Buffer.of(VERSION), Buffer.from(id, 'hex'), cipher.encrypt(plain)]);
  }

  async decrypt(sealed: Buffer): Promise<Buffer> {
    if (sealed[0] !== VERSION) return this.decryptDirect(sealed);
    const { cipher } = await this.find(sealed.subarray(1, HEADER_BYTES).toString('hex'));
    return cipher.decrypt(sealed.subarray(HEADER_BYTES));
  }

  fingerprint(plain: Buffer): string {
    return this.newest.cipher.fingerprint(plain);
  }

  /** Data of version 1 was sealed by `GATEWAY_ENCRYPTION_KEY` itself and does not say which. */
  private decryptDirect(sealed: Buffer): Buffer {
    const ciphers = this.keks.flatMap(({ cipher }) => cipher ?? []);
    for (const cipher of ciphers) {
      try {
        return cipher.decrypt(sealed);
      } catch {
        // Another key's.
      }
    }
    throw new HoldfastError(
      'gateway_internal',
      'Stored data cannot be decrypted by any encryption key of the gateway.',
    );
  }

  /** Keys that another process made meanwhile are read when something sealed by them turns up. */
  private async find(id: string): Promise<DataKey> {
    const known = this.known.get(id);
    if (known) return known;
    const row = await this.db.selectFrom('encryption_keys').selectAll().where('id', '=', id).executeTakeFirst();
    if (!row) throw new HoldfastError('gateway_internal', `Stored data names an unknown data key '${id}'.`);
    const found = await unwrap(row, this.keks);
    this.known.set(id, found);
    return found;
  }
}

interface KeyRow {
  readonly id: string;
  readonly wrapped: Buffer;
  readonly kek_id: string;
}

const newestRow = (db: Sql): Promise<KeyRow | undefined> =>
  db.selectFrom('encryption_keys').selectAll().orderBy('created_at', 'desc').orderBy('id').limit(1).executeTakeFirst();

/** @param which `first`: only if there is none yet, however many processes try at once. */
async function insertKey(db: Sql, kek: Kek, which: 'first' | 'another'): Promise<KeyRow> {
  const row = {
    id: randomBytes(ID_BYTES).toString('hex'),
    wrapped: await kek.wrap(randomBytes(KEY_BYTES)),
    kek_id: kek.id,
  };
  return db.transaction().execute(async (transaction) => {
    await sql`LOCK TABLE encryption_keys IN SHARE ROW EXCLUSIVE MODE`.execute(transaction);
    const existing = which === 'first' ? await newestRow(transaction) : undefined;
    if (existing) return existing;
    await transaction.insertInto('encryption_keys').values(row).execute();
    return row;
  });
}

async function unwrap(row: KeyRow, keks: readonly Kek[]): Promise<DataKey> {
  return { id: row.id, cipher: createCipher(await unwrapKey(row, keks)) };
}

function unwrapKey({ wrapped, kek_id }: KeyRow, keks: readonly Kek[]): Promise<Buffer> {
  const kek = keks.find(({ id }) => id === kek_id);
  if (kek) return kek.unwrap(wrapped);
  throw new HoldfastError(
    'gateway_internal',
    `GATEWAY_ENCRYPTION_KEY is not the key '${kek_id}' that this database was set up with. ` +
      'Name that one in GATEWAY_ENCRYPTION_KEYS_PREVIOUS.',
  );
}
