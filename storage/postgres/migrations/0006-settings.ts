import { type Kysely, sql } from 'kysely';

/** Settings that operators store over gateway.yaml. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE routing_overlay ADD COLUMN settings jsonb`.execute(db);
}
