import { sql } from 'kysely';
import type { BudgetPeriod } from '../../domain/budget.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { ScopeType } from '../../domain/scope.ts';
import type { Sql } from './database.ts';
import { ledgerSum, periodEnd, periodStart } from './spend-counters.ts';

/** A request whose ledger row is open. */
export interface OpenRequest {
  readonly id: string;
  readonly runId: string;
  /** Whether one of its calls was answered. */
  readonly answered: boolean;
}

/** Requests accepted more than `ageSeconds` ago that are not settled, oldest first, after `cursor`. */
export async function openRequests(
  db: Sql,
  ageSeconds: number,
  limit: number,
  cursor: string | undefined,
): Promise<readonly OpenRequest[]> {
  const { rows } = await sql<OpenRequest>`
    SELECT r.id, r.run_id AS "runId",
      EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = r.id AND a.state = 'succeeded') AS answered
    FROM llm_requests r
    WHERE r.completed_at IS NULL AND r.timestamp < now() - ${ageSeconds} * interval '1 second'
      AND ${cursor === undefined ? sql`true` : sql`r.id > ${cursor}`}
    ORDER BY r.id LIMIT ${limit}`.execute(db);
  return rows;
}

/** How far a counter was off, before it was set right. */
export interface Drift {
  readonly scope: ScopeType;
  readonly id: string;
  readonly period: BudgetPeriod;
  readonly spentNanos: NanoDollars;
  readonly reservedNanos: NanoDollars;
}

/**
 * Compares the counters of running periods that were not looked at for longest with the ledger and the open
 * reservations, and sets right what is off. Settlements change both sides in one statement, so within one snapshot they
 * agree to the nano-dollar; the difference is applied relative to what the counter is by then.
 */
export async function repairCounters(db: Sql, limit: number): Promise<readonly Drift[]> {
  const { rows } = await sql<Drift>`
    WITH checked AS (
      SELECT c.scope_type, c.scope_id, c.period, c.period_start,
        ${ledgerSum(sql`c.scope_type`, sql`c.scope_id`, sql`c.period_start`, periodEnd(sql`c.period`, sql`c.period_start`))}
          - c.spent_nanos AS spent,
        coalesce((
          SELECT sum(r.reserved_nanos) FROM reservations r
          WHERE r.settled_at IS NULL AND (r.scope_type, r.scope_id, r.period, r.period_start)
            = (c.scope_type, c.scope_id, c.period, c.period_start)), 0)::bigint - c.reserved_nanos AS reserved
      FROM (
        SELECT * FROM spend_counters
        WHERE period_start >= ${periodStart(sql`period`, sql`now() - interval '1 day'`)}
        ORDER BY checked_at NULLS FIRST LIMIT ${limit}
      ) c
    ), repaired AS (
      UPDATE spend_counters c SET checked_at = now(), spent_nanos = c.spent_nanos + k.spent,
        reserved_nanos = greatest(0, c.reserved_nanos + k.reserved)
      FROM checked k
      WHERE (c.scope_type, c.scope_id, c.period, c.period_start) = (k.scope_type, k.scope_id, k.period, k.period_start)
    )
    SELECT scope_type AS scope, scope_id AS id, period, spent AS "spentNanos", reserved AS "reservedNanos"
    FROM checked WHERE spent <> 0 OR reserved <> 0`.execute(db);
  return rows;
}

/** Removes reservations settled more than a day ago: what they came to is in the ledger. Returns how many. */
export async function removeSettledReservations(db: Sql, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    DELETE FROM reservations WHERE ctid IN (
      SELECT ctid FROM reservations WHERE settled_at < now() - interval '1 day' LIMIT ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0);
}

/** Ends the steps and approvals of runs that no workflow will end: others count as under way, or wait for people, for ever. */
export async function closeParts(db: Sql, runIds: readonly string[]): Promise<void> {
  const ids = sql`${[...runIds]}::text[]`;
  await sql`
    UPDATE run_steps SET state = 'cancelled', completed_at = now()
    WHERE run_id = ANY (${ids}) AND state = 'running'`.execute(db);
  await sql`
    UPDATE approvals SET state = 'withdrawn', decided_at = now()
    WHERE run_id = ANY (${ids}) AND state = 'pending'`.execute(db);
}
