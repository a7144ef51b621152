import { type RawBuilder, sql } from 'kysely';
import type { Sql } from './database.ts';

/** The first day of the period that `at` (a timestamptz) falls into. Days, weeks from Monday and months are UTC. */
export const periodStart = (period: RawBuilder<unknown>, at: RawBuilder<unknown>) => sql`(CASE ${period}
  WHEN 'daily' THEN date_trunc('day', (${at}) AT TIME ZONE 'UTC')
  WHEN 'weekly' THEN date_trunc('week', (${at}) AT TIME ZONE 'UTC')
  WHEN 'monthly' THEN date_trunc('month', (${at}) AT TIME ZONE 'UTC')
  ELSE timestamp '1970-01-01' END)::date`;

/** `(scope_type, scope_id)` of the request `r`, for a FROM clause. */
export const SCOPES_OF_REQUEST = sql`(VALUES
  ('key', r.virtual_key_id), ('organisation', r.organisation), ('project', r.project), ('team', r.team),
  ('user', r.user_id)) AS s (scope_type, scope_id)`;

/**
 * The counters that `requests` (rows of `llm_requests`) count in: one for each period of their scopes' budgets, and the
 * key's month, which is kept without a budget too. `hard_limit` is null where only a soft budget looks on.
 */
export const countersOf = (requests: RawBuilder<unknown>) => sql`
  SELECT s.scope_type, s.scope_id, p.period, ${periodStart(sql`p.period`, sql`r.timestamp`)} AS period_start,
         min(b.limit_nanos) FILTER (WHERE b.kind = 'hard') AS hard_limit
  FROM ${requests} r
  CROSS JOIN LATERAL ${SCOPES_OF_REQUEST}
  CROSS JOIN LATERAL (
    SELECT period FROM budgets b WHERE (b.scope_type, b.scope_id) = (s.scope_type, s.scope_id)
    UNION SELECT 'monthly' WHERE s.scope_type = 'key'
  ) p
  LEFT JOIN budgets b ON (b.scope_type, b.scope_id, b.period) = (s.scope_type, s.scope_id, p.period)
  WHERE s.scope_id IS NOT NULL
  GROUP BY 1, 2, 3, 4`;

/** What the ledger says was spent in a scope from `start` until `end` (dates, UTC). */
export const ledgerSum = (
  scopeType: RawBuilder<unknown>,
  scopeId: RawBuilder<unknown>,
  start: RawBuilder<unknown>,
  end: RawBuilder<unknown>,
) => {
  const sumBy = (column: string) => sql`(
    SELECT sum(l.cost_nanos) FROM llm_requests l
    WHERE l.${sql.ref(column)} = ${scopeId} AND l.completed_at IS NOT NULL
      AND l.timestamp >= ${start}::timestamp AT TIME ZONE 'UTC' AND l.timestamp < ${end}::timestamp AT TIME ZONE 'UTC')`;
  return sql`coalesce(CASE ${scopeType}
    WHEN 'key' THEN ${sumBy('virtual_key_id')}
    WHEN 'organisation' THEN ${sumBy('organisation')}
    WHEN 'project' THEN ${sumBy('project')}
    WHEN 'team' THEN ${sumBy('team')}
    WHEN 'user' THEN ${sumBy('user_id')} END, 0)::bigint`;
};

/** The first day after a period. */
export const periodEnd = (period: RawBuilder<unknown>, start: RawBuilder<unknown>) => sql`(CASE ${period}
  WHEN 'daily' THEN ${start} + interval '1 day'
  WHEN 'weekly' THEN ${start} + interval '7 days'
  WHEN 'monthly' THEN ${start} + interval '1 month'
  ELSE timestamp 'infinity' END)`;

/** Creates the counters of a request that are not there yet, with what the ledger has of their period already. */
export async function ensureCounters(db: Sql, requestId: string): Promise<void> {
  await sql`
    INSERT INTO spend_counters (scope_type, scope_id, period, period_start, spent_nanos)
    SELECT w.scope_type, w.scope_id, w.period, w.period_start,
           ${ledgerSum(sql`w.scope_type`, sql`w.scope_id`, sql`w.period_start`, periodEnd(sql`w.period`, sql`w.period_start`))}
    FROM (${countersOf(sql`(SELECT * FROM llm_requests WHERE id = ${requestId})`)}) w
    WHERE NOT EXISTS (
      SELECT 1 FROM spend_counters c
      WHERE (c.scope_type, c.scope_id, c.period, c.period_start) = (w.scope_type, w.scope_id, w.period, w.period_start))
    ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING`.execute(db);
}
