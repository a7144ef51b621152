import { type RawBuilder, sql } from 'kysely';
import type { Sql } from './database.ts';

/** What is kept for a while only, each with what says that its time is over. Bodies come last: the others refer to them. */
const expiring = (kept: RawBuilder<unknown>) => [
  { table: 'responses', over: sql`created_at < now() - ${kept}` },
  { table: 'agent_messages', over: sql`created_at < now() - ${kept}` },
  { table: 'webhook_deliveries', over: sql`created_at < now() - ${kept}` },
  {
    table: 'run_events',
    // As an array, which is looked up in the index: by IN the planner reads the whole table, the largest there is.
    over: sql`run_id = ANY (ARRAY(
      SELECT id FROM runs WHERE completed_at < now() - ${kept} ORDER BY completed_at LIMIT 1000))`,
  },
  {
    table: 'batch_lines',
    over: sql`batch_id = ANY (ARRAY(
      SELECT id FROM runs WHERE completed_at < now() - ${kept} AND kind = 'batch' ORDER BY completed_at LIMIT 100))`,
  },
  {
    table: 'runs',
    over: sql`completed_at < now() - ${kept} AND NOT EXISTS (SELECT 1 FROM run_events e WHERE e.run_id = runs.id)
      AND NOT EXISTS (SELECT 1 FROM batch_lines l WHERE l.batch_id = runs.id)`,
  },
  // `created_at` may be a day behind the latest that refers to it.
  { table: 'bodies', over: sql`created_at < now() - ${kept} - interval '1 day'` },
];

/**
 * Removes responses, ended runs with their events, and bodies that are older than `days`. The ledger stays.
 * @param limit Rows of a kind at most.
 * @returns How many rows there were.
 */
export async function removeOld(db: Sql, days: number, limit: number): Promise<number> {
  let removed = 0;
  for (const { table, over } of expiring(sql`${days} * interval '1 day'`)) {
    const { numAffectedRows } = await sql`
      DELETE FROM ${sql.table(table)} WHERE ctid IN (
        SELECT ctid FROM ${sql.table(table)} WHERE ${over} LIMIT ${limit})`.execute(db);
    removed += Number(numAffectedRows ?? 0);
  }
  return removed;
}
