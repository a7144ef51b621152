import { sql } from 'kysely';
import type { NanoDollars } from '../../domain/money.ts';
import { isUniqueViolation, type Sql } from './database.ts';

/** A reservation against the monthly cost cap of a virtual key. */
export interface NewReservation {
  readonly requestId: string;
  readonly keyId: string;
  /** The most one call of the request can cost. */
  readonly nanos: NanoDollars;
  readonly priceVersion: string;
}

export type ReserveResult = 'reserved' | 'exceeded';

/**
 * The money saga's first half: an amount is set aside before a call and settled after it (see `settlement.ts`).
 * `spent + reserved` never passes the cap: every statement checks it on the row it locks.
 */
export class Reservations {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Sets the amount aside, or nothing at all. Idempotent by request. */
  async reserve({ requestId, keyId, nanos, priceVersion }: NewReservation): Promise<ReserveResult> {
    try {
      const { rows } = await sql<{ reserved: boolean }>`
        WITH existing AS (
          SELECT 1 FROM reservations WHERE request_id = ${requestId}
        ), counter AS (
          INSERT INTO spend_counters AS c (scope_type, scope_id, period_start, reserved_nanos)
          SELECT 'key', ${keyId}, ${THIS_MONTH}, ${nanos}::bigint
          WHERE NOT EXISTS (SELECT 1 FROM existing) AND ${nanos}::bigint <= ${capOf(keyId)}
          ON CONFLICT (scope_type, scope_id, period_start) DO UPDATE
            SET reserved_nanos = c.reserved_nanos + excluded.reserved_nanos
            WHERE c.spent_nanos + c.reserved_nanos + excluded.reserved_nanos <= ${capOf(keyId)}
          RETURNING period_start
        ), reservation AS (
          INSERT INTO reservations (request_id, scope_type, scope_id, period_start, reserved_nanos, price_version)
          SELECT ${requestId}, 'key', ${keyId}, period_start, ${nanos}::bigint, ${priceVersion} FROM counter
          RETURNING 1
        )
        SELECT EXISTS (SELECT 1 FROM existing) OR EXISTS (SELECT 1 FROM reservation) AS reserved`.execute(this.db);
      return rows[0]?.reserved ? 'reserved' : 'exceeded';
    } catch (error) {
      // Lost a race against the same request; the winner's statement holds the reservation, ours was undone whole.
      if (isUniqueViolation(error, 'reservations_pkey')) return 'reserved';
      throw error;
    }
  }

  /**
   * Makes sure that the reservation covers one more call of `nanos` on top of what earlier attempts cost. A request
   * without a reservation (the master key's) is always covered.
   */
  async cover(requestId: string, nanos: NanoDollars): Promise<ReserveResult> {
    const { rows } = await sql<{ covered: boolean }>`
      WITH booked AS (
        SELECT coalesce(sum(CASE WHEN state = 'claimed' THEN max_cost_nanos ELSE cost_nanos END), 0)::bigint AS nanos
        FROM attempts WHERE request_id = ${requestId}
      ), missing AS (
        SELECT r.*, booked.nanos + ${nanos}::bigint - r.reserved_nanos AS nanos
        FROM reservations r, booked
        WHERE r.request_id = ${requestId} AND r.settled_at IS NULL
          AND booked.nanos + ${nanos}::bigint > r.reserved_nanos
      ), raised AS (
        UPDATE spend_counters c SET reserved_nanos = c.reserved_nanos + m.nanos
        FROM missing m
        WHERE (c.scope_type, c.scope_id, c.period_start) = (m.scope_type, m.scope_id, m.period_start)
          AND c.spent_nanos + c.reserved_nanos + m.nanos <= coalesce(
            (SELECT cost_cap_nanos FROM virtual_keys WHERE id = m.scope_id), ${NO_CAP})
        RETURNING c.scope_type, c.scope_id
      ), extended AS (
        UPDATE reservations r SET reserved_nanos = r.reserved_nanos + m.nanos
        FROM missing m, raised
        WHERE r.request_id = m.request_id AND (r.scope_type, r.scope_id) = (m.scope_type, m.scope_id)
          AND (raised.scope_type, raised.scope_id) = (m.scope_type, m.scope_id)
        RETURNING 1
      )
      SELECT NOT EXISTS (SELECT 1 FROM missing) OR EXISTS (SELECT 1 FROM extended) AS covered`.execute(this.db);
    return rows[0]?.covered ? 'reserved' : 'exceeded';
  }
}

const NO_CAP = sql`9223372036854775807::bigint`;

/** Cost caps are monthly, in UTC. */
export const THIS_MONTH = sql`date_trunc('month', now() AT TIME ZONE 'UTC')::date`;

const capOf = (keyId: string) =>
  sql`coalesce((SELECT cost_cap_nanos FROM virtual_keys WHERE id = ${keyId}), ${NO_CAP})`;
