import { sql } from 'kysely';
import { HoldfastError } from '../../domain/errors.ts';
import type { Sql } from './database.ts';

/** An `Idempotency-Key` as its owner used it. */
export interface IdempotencyKey {
  readonly owner: string;
  /** Keys of different endpoints do not meet. */
  readonly endpoint: string;
  readonly key: string;
  readonly bodyHash: string;
}

/** Hours after which a key is forgotten. */
const TTL_HOURS = 24;

const IN_FORCE = sql<boolean>`expires_at > now()`;

const taken = (db: Sql, { owner, endpoint, key }: Omit<IdempotencyKey, 'bodyHash'>) =>
  db
    .selectFrom('idempotency_keys')
    .select(['run_id', 'body_hash'])
    .where((eb) => eb.and({ owner, endpoint, key }));

function sameBody({ bodyHash }: IdempotencyKey, row: { readonly run_id: string; readonly body_hash: string }): string {
  if (row.body_hash === bodyHash) return row.run_id;
  throw new HoldfastError('caller_conflict', 'This Idempotency-Key was used with another request body.', {
    param: 'Idempotency-Key',
  });
}

/** Which run each `Idempotency-Key` stands for. */
export class Idempotency {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /**
   * Takes the key for `runId` and stores the run with it by `insert`, in one transaction. If the key is taken, nothing is
   * stored and the run that has it is returned.
   * @param replaces A run that failed without the caller's fault; it loses the key.
   * @throws `caller_conflict` when the key was used with another body.
   */
  async once(
    key: IdempotencyKey,
    runId: string,
    replaces: string | undefined,
    insert: (db: Sql) => Promise<void>,
  ): Promise<string> {
    return this.db.transaction().execute(async (transaction) => {
      const { rows } = await sql`
        INSERT INTO idempotency_keys AS k (owner, endpoint, key, body_hash, run_id, expires_at)
        VALUES (${key.owner}, ${key.endpoint}, ${key.key}, ${key.bodyHash}, ${runId},
                now() + ${TTL_HOURS} * interval '1 hour')
        ON CONFLICT (owner, endpoint, key) DO UPDATE
        SET body_hash = excluded.body_hash, run_id = excluded.run_id, expires_at = excluded.expires_at
        WHERE k.expires_at < now() OR (k.run_id = ${replaces ?? ''} AND k.body_hash = excluded.body_hash)
        RETURNING run_id`.execute(transaction);
      if (rows.length > 0) {
        await insert(transaction);
        return runId;
      }
      return sameBody(key, await taken(transaction, key).executeTakeFirstOrThrow());
    });
  }

  /** The run that has the key. Throws as `once` does. */
  async holder(key: IdempotencyKey): Promise<string | undefined> {
    const row = await taken(this.db, key).where(IN_FORCE).executeTakeFirst();
    return row && sameBody(key, row);
  }

  /** The run that a key stands for, whatever its body was. */
  async find(owner: string, endpoint: string, key: string): Promise<string | undefined> {
    return (await taken(this.db, { owner, endpoint, key }).where(IN_FORCE).executeTakeFirst())?.run_id;
  }

  /** Forgets keys whose time is over. Returns how many. */
  async removeExpired(limit: number): Promise<number> {
    const { numAffectedRows } = await sql`
      DELETE FROM idempotency_keys WHERE ctid IN (
        SELECT ctid FROM idempotency_keys WHERE expires_at < now() LIMIT ${limit})`.execute(this.db);
    return Number(numAffectedRows ?? 0);
  }
}
