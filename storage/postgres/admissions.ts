import { type RawBuilder, sql } from 'kysely';
import type { ScopeType } from '../../domain/scope.ts';
import { type Claim, insertClaim } from './attempts.ts';
import { insertBody } from './bodies.ts';
import { isUniqueViolation, type Sql } from './database.ts';
import { insertRequest, type NewRequest, openRequest, toRequestIdConflict } from './requests.ts';
import { type ExceededBudget, exceededOf, type NewReservation, reserving } from './reservations.ts';
import { ensureCounters } from './spend-counters.ts';

/** A request's first call: what is set aside for it, and who makes it. */
export interface FirstCall {
  readonly reservation: NewReservation;
  readonly claim: Claim;
}

/**
 * `taken`: somebody else has the attempt. `closed`: the request is settled. `refused`: a hard budget has not that much
 * left; nothing was reserved or claimed then.
 */
export type Admission =
  | { readonly state: 'claimed' | 'taken' | 'closed' }
  | { readonly state: 'refused'; readonly exceeded: ExceededBudget };

interface Verdict {
  readonly open: boolean;
  readonly claimed: boolean;
  readonly complete: boolean;
  readonly fresh: boolean;
  readonly scope_type: ScopeType | null;
  readonly period: string | null;
}

/** Requests let into their budgets together with the claim of their first call, in one statement. */
export class Admissions {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /**
   * Commits a new request with its body, and with its first call if its budgets allow it and have been counted before;
   * returns whether they did. Within the caller's transaction if `db` is one. Throws as `Requests.insert` does.
   */
  async insert(request: NewRequest, first: FirstCall, db: Sql = this.db): Promise<boolean> {
    const open = sql`body AS (${insertBody(request.body)}
      ), open AS (${insertRequest(request, { state: 'running', sharedKey: null })} RETURNING *)`;
    try {
      return (await this.execute(db, open, first)).claimed;
    } catch (error) {
      throw toRequestIdConflict(error, request.requestId);
    }
  }

  /** The same for a request that is stored already. Idempotent, but for the claim. */
  async admit(first: FirstCall): Promise<Admission> {
    const { requestId } = first.reservation;
    for (;;) {
      const verdict = await this.tryAdmit(first);
      if (verdict.claimed) return { state: 'claimed' };
      if (!verdict.open) return { state: 'closed' };
      if (verdict.fresh && !verdict.complete) await ensureCounters(this.db, requestId);
      else if (verdict.fresh && verdict.scope_type) return { state: 'refused', exceeded: exceededOf(verdict) };
      else return { state: 'taken' };
    }
  }

  private async tryAdmit(first: FirstCall): Promise<Verdict> {
    try {
      return await this.execute(this.db, sql`open AS (${openRequest(first.reservation.requestId)})`, first);
    } catch (error) {
      // Lost a race against the same request; the winner's statement holds reservation and claim.
      if (!isUniqueViolation(error, 'reservations_pkey')) throw error;
      return { open: true, claimed: false, complete: true, fresh: false, scope_type: null, period: null };
    }
  }

  private async execute(db: Sql, open: RawBuilder<unknown>, { reservation, claim }: FirstCall): Promise<Verdict> {
    const admitted = sql`(
      SELECT open.* FROM open, verdict WHERE NOT fresh OR (complete AND NOT EXISTS (SELECT 1 FROM over))) AS admitted`;
    const { rows } = await sql<Verdict>`
      WITH ${open}, ${reserving(reservation)}, claimed AS (${insertClaim(claim, admitted)})
      SELECT EXISTS (SELECT 1 FROM open) AS open, EXISTS (SELECT 1 FROM claimed) AS claimed, complete, fresh,
             over.scope_type, over.period
      FROM verdict LEFT JOIN over ON true`.execute(db);
    return rows[0] as Verdict;
  }
}
