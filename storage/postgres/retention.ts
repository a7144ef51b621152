import { sql } from 'kysely';
import type { Sql } from './database.ts';

/** What is kept for a while only, each with what says that its time is over. Bodies come last: the others refer to them. */
const EXPIRING = [
  { table: 'responses', over: sql`created_at < now() - days.kept` },
  { table: 'webhook_deliveries', over: sql`created_at < now() - days.kept` },
  {
    table: 'run_events',
    over: sql`run_id IN (SELECT id FROM runs WHERE completed_at < now() - days.kept ORDER BY completed_at LIMIT 1000)`,
  },
  {
    table: 'batch_lines',
    over: sql`batch_id IN (SELECT id FROM runs WHERE completed_at < now() - days.kept AND kind = 'batch' ORDER BY completed_at LIMIT 100)`,
  },
  {
    table: 'runs',
    over: sql`completed_at < now() - days.kept AND NOT EXISTS (SELECT 1 FROM run_events e WHERE e.run_id = runs.id)
      AND NOT EXISTS (SELECT 1 FROM batch_lines l WHERE l.batch_id = runs.id)`,
  },
  { table: 'bodies', over: sql`created_at < now() - days.kept` },
] as const;

/**
 * Removes responses, ended runs with their events, and bodies that are older than `days`. The ledger stays.
 * @param limit Rows of a kind at most.
 * @returns How many rows there were.
 */
export async function removeOld(db: Sql, days: number, limit: number): Promise<number> {
  let removed = 0;
  for (const { table, over } of EXPIRING) {
    const { numAffectedRows } = await sql`
      DELETE FROM ${sql.table(table)} WHERE ctid IN (
        SELECT ${sql.table(table)}.ctid FROM ${sql.table(table)}, (SELECT ${days} * interval '1 day' AS kept) days
        WHERE ${over} LIMIT ${limit})`.execute(db);
    removed += Number(numAffectedRows ?? 0);
  }
  return removed;
}
