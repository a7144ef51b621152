import { sql } from 'kysely';
import type { NanoDollars } from '../../domain/money.ts';
import type { ScopeType } from '../../domain/scope.ts';
import { isUniqueViolation, type Sql } from './database.ts';
import { openRequest } from './requests.ts';
import { countersOf, ensureCounters } from './spend-counters.ts';

export interface NewReservation {
  readonly requestId: string;
  /** The most one call of the request can cost. */
  readonly nanos: NanoDollars;
  readonly priceVersion: string;
}

/** The first hard budget that has not that much left. */
export interface ExceededBudget {
  readonly scope: ScopeType;
  readonly period: string;
}

export type ReserveResult =
  | { readonly reserved: true }
  | { readonly reserved: false; readonly exceeded: ExceededBudget };

interface Verdict {
  readonly done: boolean;
  readonly complete: boolean;
  readonly scope_type: ScopeType | null;
  readonly period: string | null;
}

/**
 * The money saga's first half: an amount is set aside in every budget of a request's scopes before a call, and settled
 * after it (see `settlement.ts`). `spent + reserved` never passes a hard limit: every statement locks the counters in
 * (type, id) order and checks them as they are then.
 */
export class Reservations {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Sets the amount aside in all budgets or in none. Idempotent by request. */
  async reserve(reservation: NewReservation): Promise<ReserveResult> {
    for (;;) {
      const verdict = await this.tryReserve(reservation);
      if (verdict.done) return { reserved: true };
      // What fills the budget may be the same request's reservation, made by somebody else meanwhile.
      if (verdict.complete) return (await this.exists(reservation.requestId)) ? { reserved: true } : refusal(verdict);
      await ensureCounters(this.db, reservation.requestId);
    }
  }

  private async exists(requestId: string): Promise<boolean> {
    const query = this.db.selectFrom('reservations').select('request_id').where('request_id', '=', requestId);
    return (await query.limit(1).executeTakeFirst()) !== undefined;
  }

  private async tryReserve({ requestId, nanos, priceVersion }: NewReservation): Promise<Verdict> {
    try {
      const { rows } = await sql<Verdict>`
        WITH open AS (${openRequest(requestId)}), ${reserving({ requestId, nanos, priceVersion })}
        SELECT NOT fresh OR (complete AND NOT EXISTS (SELECT 1 FROM over)) AS done, complete, over.scope_type, over.period
        FROM verdict LEFT JOIN over ON true`.execute(this.db);
      return rows[0] as Verdict;
    } catch (error) {
      // Lost a race against the same request; the winner's statement holds the reservation, ours was undone whole.
      if (isUniqueViolation(error, 'reservations_pkey'))
        return { done: true, complete: true, scope_type: null, period: null };
      throw error;
    }
  }

  /**
   * Makes sure that the reservations cover one more call of `nanos` on top of what earlier attempts cost, in all budgets
   * or in none. A request without reservations is always covered.
   */
  async cover(requestId: string, nanos: NanoDollars): Promise<ReserveResult> {
    const { rows } = await sql<Verdict>`
      WITH open AS (${openRequest(requestId)}
      ), booked AS (
        SELECT coalesce(sum(CASE WHEN state = 'claimed' THEN max_cost_nanos ELSE cost_nanos END), 0)::bigint AS nanos
        FROM attempts WHERE request_id = ${requestId}
      ), missing AS (
        SELECT r.*, booked.nanos + ${nanos}::bigint - r.reserved_nanos AS nanos
        FROM reservations r JOIN open ON open.id = r.request_id, booked
        WHERE r.settled_at IS NULL
          AND booked.nanos + ${nanos}::bigint > r.reserved_nanos
      ), locked AS (
        SELECT c.*, m.nanos FROM spend_counters c JOIN missing m
          ON (c.scope_type, c.scope_id, c.period, c.period_start) = (m.scope_type, m.scope_id, m.period, m.period_start)
        ORDER BY c.scope_type, c.scope_id, c.period FOR UPDATE OF c
      ), over AS (
        SELECT l.scope_type, l.period FROM locked l JOIN budgets b
          ON (b.scope_type, b.scope_id, b.period, b.kind) = (l.scope_type, l.scope_id, l.period, 'hard')
        WHERE l.spent_nanos + l.reserved_nanos + l.nanos > b.limit_nanos ORDER BY 1, 2 LIMIT 1
      ), raised AS (
        UPDATE spend_counters c SET reserved_nanos = c.reserved_nanos + l.nanos
        FROM locked l
        WHERE (c.scope_type, c.scope_id, c.period, c.period_start) = (l.scope_type, l.scope_id, l.period, l.period_start)
          AND NOT EXISTS (SELECT 1 FROM over)
        RETURNING c.scope_type, c.scope_id, c.period, l.nanos
      ), extended AS (
        UPDATE reservations r SET reserved_nanos = r.reserved_nanos + c.nanos
        FROM raised c
        WHERE r.request_id = ${requestId} AND (r.scope_type, r.scope_id, r.period) = (c.scope_type, c.scope_id, c.period)
      )
      SELECT NOT EXISTS (SELECT 1 FROM over) AS done, true AS complete, over.scope_type, over.period
      FROM (SELECT 1) AS one LEFT JOIN over ON true`.execute(this.db);
    const verdict = rows[0] as Verdict;
    return verdict.done ? { reserved: true } : refusal(verdict);
  }
}

/**
 * What takes the amount from all budgets of the request in `open` or from none, as common table expressions. `verdict`
 * says whether the request had no reservation before (`fresh`) and all of its counters exist (`complete`); `over` is the
 * first budget that has not that much left.
 */
export const reserving = ({ requestId, nanos, priceVersion }: NewReservation) => sql`
  existing AS (
    SELECT 1 FROM reservations WHERE request_id = ${requestId} LIMIT 1
  ), wanted AS (${countersOf(sql`open`)}
  ), locked AS (
    SELECT c.*, w.hard_limit FROM spend_counters c JOIN wanted w
      ON (c.scope_type, c.scope_id, c.period, c.period_start) = (w.scope_type, w.scope_id, w.period, w.period_start)
    ORDER BY c.scope_type, c.scope_id, c.period FOR UPDATE OF c
  ), over AS (
    SELECT scope_type, period FROM locked
    WHERE spent_nanos + reserved_nanos + ${nanos}::bigint > hard_limit ORDER BY scope_type, period LIMIT 1
  ), verdict AS (
    SELECT (SELECT count(*) FROM locked) = (SELECT count(*) FROM wanted) AS complete,
           NOT EXISTS (SELECT 1 FROM existing) AS fresh
  ), counted AS (
    UPDATE spend_counters c SET reserved_nanos = c.reserved_nanos + ${nanos}::bigint
    FROM locked l, verdict v
    WHERE (c.scope_type, c.scope_id, c.period, c.period_start) = (l.scope_type, l.scope_id, l.period, l.period_start)
      AND v.complete AND v.fresh AND NOT EXISTS (SELECT 1 FROM over)
    RETURNING c.scope_type, c.scope_id, c.period, c.period_start
  ), reservation AS (
    INSERT INTO reservations
      (request_id, scope_type, scope_id, period, period_start, reserved_nanos, price_version)
    SELECT ${requestId}, scope_type, scope_id, period, period_start, ${nanos}::bigint, ${priceVersion} FROM counted
  )`;

const refusal = (verdict: Verdict): ReserveResult => ({ reserved: false, exceeded: exceededOf(verdict) });

export const exceededOf = ({ scope_type, period }: Pick<Verdict, 'scope_type' | 'period'>): ExceededBudget => ({
  scope: scope_type ?? 'key',
  period: period ?? '',
});
