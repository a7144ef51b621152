import { sql } from 'kysely';
import type { Sql } from './database.ts';

/** How long a process counts as alive after its last sign of life. */
export const LEASE_MS = 5_000;

/** Signs of life of gateway processes. The claim of an attempt is good while the lease of its owner is. */
export class Processes {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Extends the lease of `id`, by the database's clock. */
  async renew(id: string): Promise<void> {
    await sql`
      INSERT INTO processes (id, lease_expires_at) VALUES (${id}, now() + ${LEASE_MS} * interval '1 millisecond')
      ON CONFLICT (id) DO UPDATE SET lease_expires_at = excluded.lease_expires_at`.execute(this.db);
  }

  /** A lease of `seconds` for what outlives processes, such as a batch at a provider. */
  async hold(id: string, seconds: number): Promise<void> {
    await sql`
      INSERT INTO processes (id, lease_expires_at) VALUES (${id}, now() + ${seconds} * interval '1 second')
      ON CONFLICT (id) DO NOTHING`.execute(this.db);
  }

  /** Ends the lease of a process that has nothing in flight, and forgets processes that died long ago. */
  async remove(id: string): Promise<void> {
    await sql`
      DELETE FROM processes WHERE id = ${id} OR lease_expires_at < now() - interval '1 day'`.execute(this.db);
  }
}
