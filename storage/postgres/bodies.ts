import { sql } from 'kysely';
import { LRUCache } from 'lru-cache';
import type { Cipher } from '../cipher.ts';
import type { Sql } from './database.ts';

/** Bytes of recent bodies kept in memory, so that the process that stored one does not read it back. */
const CACHE_BYTES = 64 * 1024 * 1024;

/** A body ready to be stored, by content hash. */
export interface SealedBody {
  readonly ref: string;
  readonly content: Buffer;
}

/** Once a day is enough for that, and spares a write for each request that was asked before. */
export const keepBody = sql`
  ON CONFLICT (ref) DO UPDATE SET created_at = now() WHERE bodies.created_at < now() - interval '1 day'`;

/** A body that is stored again counts as new, so that it is kept as long as what refers to it. */
export const insertBody = ({ ref, content }: SealedBody) => sql`
  INSERT INTO bodies (ref, content) VALUES (${ref}, ${content}) ${keepBody}`;

/**
 * Request and response bodies by content hash (claim check): Temporal's histories hold the reference only, never a
 * prompt or an answer. Encrypted at rest.
 */
export class Bodies {
  private readonly cache = new LRUCache<string, object>({ maxSize: CACHE_BYTES });
  private readonly db: Sql;
  private readonly cipher: Cipher;

  constructor(db: Sql, cipher: Cipher) {
    this.db = db;
    this.cipher = cipher;
  }

  /** Encrypts `value`; the caller stores the result with the row that refers to it, in one statement. */
  seal(value: object): SealedBody {
    const plain = Buffer.from(JSON.stringify(value));
    const ref = this.cipher.fingerprint(plain);
    this.cache.set(ref, value, { size: plain.length });
    return { ref, content: this.cipher.encrypt(plain) };
  }

  /** Stores `value` by itself and returns its reference. */
  async store(value: object): Promise<string> {
    const body = this.seal(value);
    await this.insert(body);
    return body.ref;
  }

  /** Stores a body within the caller's transaction if `db` is one. */
  async insert(body: SealedBody, db: Sql = this.db): Promise<void> {
    await sql`${insertBody(body)}`.execute(db);
  }

  /** A hash of `value` that only holders of the key can compute. */
  fingerprint(value: object): string {
    return this.cipher.fingerprint(Buffer.from(JSON.stringify(value)));
  }

  async get<T extends object>(ref: string): Promise<T | undefined> {
    const cached = this.cache.get(ref);
    if (cached) return cached as T;
    const row = await this.db.selectFrom('bodies').select('content').where('ref', '=', ref).executeTakeFirst();
    if (!row) return undefined;
    const plain = await this.cipher.decrypt(row.content);
    const value = JSON.parse(plain.toString()) as T;
    this.cache.set(ref, value, { size: plain.length });
    return value;
  }

  /** What a request asked. */
  async ofRequest<T extends object>(requestId: string): Promise<T | undefined> {
    const ref = await this.refOfRequest(requestId);
    return ref === undefined ? undefined : this.get<T>(ref);
  }

  async refOfRequest(requestId: string): Promise<string | undefined> {
    const query = this.db.selectFrom('llm_requests').select('body_ref').where('id', '=', requestId);
    return (await query.executeTakeFirst())?.body_ref;
  }

  /** The bodies of those of the references that are there. */
  async getMany<T extends object>(refs: readonly string[]): Promise<ReadonlyMap<string, T>> {
    const found = new Map<string, T>();
    for (const ref of refs) {
      const cached = this.cache.get(ref);
      if (cached) found.set(ref, cached as T);
    }
    const missing = refs.filter((ref) => !found.has(ref));
    if (missing.length === 0) return found;
    const query = this.db.selectFrom('bodies').select(['ref', 'content']);
    for (const { ref, content } of await query.where(sql<boolean>`ref = ANY(${missing}::text[])`).execute()) {
      const plain = await this.cipher.decrypt(content);
      found.set(ref, JSON.parse(plain.toString()) as T);
    }
    return found;
  }
}
