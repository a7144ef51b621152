import { sql } from 'kysely';
import type { AttemptKey } from '../../domain/attempt.ts';
import { BUDGET_THRESHOLDS } from '../../domain/budget.ts';
import type { ErrorInfo } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import { type Finished, insertResponse, LOST, type Outcome, outcomeColumns } from './attempts.ts';
import type { Sql } from './database.ts';
import { periodStart, SCOPES_OF_REQUEST } from './spend-counters.ts';

/** How a request ended. Everything else is in its attempts. */
export interface Ending {
  readonly requestId: string;
  readonly state: 'completed' | 'failed' | 'cancelled';
  readonly error?: ErrorInfo;
}

/**
 * The money saga's second half, in one statement: attempts nobody finished become `unknown` at their maximum, the sum
 * of all attempts is booked as spent in every counter of the request's scopes, the rest of its reservations is freed,
 * budgets that passed a threshold get their warning, and the ledger row is closed. Idempotent: a request that is settled
 * stays as it is.
 * @returns The ids of the budget alerts that this request caused, also when it was settled before.
 */
export async function settle(db: Sql, ending: Ending): Promise<readonly string[]> {
  for (;;) {
    const { stale, alerts } = await trySettle(db, ending);
    if (!stale) return alerts;
  }
}

/**
 * Journals the answer of a claimed attempt and settles its request as completed, in one statement. Not accepted if the
 * claim was lost or the request settled meanwhile; nothing is journalled then.
 */
export async function finishAndSettle(db: Sql, key: AttemptKey, outcome: Outcome): Promise<Finished> {
  for (;;) {
    const settled = await trySettle(db, { requestId: key.requestId, state: 'completed' }, { key, outcome });
    if (settled.stale) continue;
    const { finished, attempts, costNanos, alerts } = settled;
    return finished ? { accepted: true, attempts, costNanos, alerts } : { accepted: false };
  }
}

interface Settled {
  /** A claim or reservation came between the statement's snapshot and its lock and was not seen: nothing was done. */
  readonly stale: boolean;
  readonly alerts: readonly string[];
  /** Whether the answer was journalled by this statement. */
  readonly finished: boolean;
  readonly attempts: number;
  readonly costNanos: NanoDollars;
}

async function trySettle(
  db: Sql,
  { requestId, state, error }: Ending,
  answer?: { readonly key: AttemptKey; readonly outcome: Outcome },
): Promise<Settled> {
  // Without an answer every attempt is among the others.
  const { targetIndex, n } = answer?.key ?? { targetIndex: -1, n: -1 };
  const finish = answer
    ? sql`UPDATE attempts a SET ${outcomeColumns(answer.outcome)}
          FROM (SELECT id FROM unsettled) AS r
          WHERE a.request_id = r.id AND (a.target_index, a.n) = (${targetIndex}::integer, ${n}::integer)
            AND a.state = 'claimed'
          RETURNING a.*`
    : sql`SELECT * FROM attempts WHERE false`;
  const body = answer ? sql`body AS (${insertResponse(answer.outcome)}), ` : sql``;
  const { rows } = await sql<Settled>`
    WITH ${body}seen AS (
      SELECT xmin AS version FROM llm_requests WHERE id = ${requestId}
    ), latest AS (
      SELECT *, xmin AS version FROM llm_requests WHERE id = ${requestId} AND completed_at IS NULL FOR UPDATE
    ), unsettled AS (
      SELECT latest.* FROM latest JOIN seen USING (version)
    ), finished AS (${finish}
    ), open AS (
      SELECT * FROM unsettled WHERE ${!answer}::boolean OR EXISTS (SELECT 1 FROM finished)
    ), others AS (
      -- Locked, so that an attempt journalled at this moment is seen with its outcome.
      SELECT a.* FROM attempts a JOIN open ON a.request_id = open.id
      WHERE (a.target_index, a.n) <> (${targetIndex}::integer, ${n}::integer) FOR UPDATE OF a
    ), tried AS (
      SELECT * FROM others UNION ALL SELECT * FROM finished
    ), lost AS (
      UPDATE attempts a SET state = 'unknown', cost_nanos = a.max_cost_nanos, finished_at = clock_timestamp(),
        error_code = 'gateway_unavailable', error_message = ${LOST}
      FROM others t
      WHERE (a.request_id, a.target_index, a.n) = (t.request_id, t.target_index, t.n) AND t.state = 'claimed'
    ), total AS (
      SELECT coalesce(sum(CASE WHEN state = 'claimed' THEN max_cost_nanos ELSE cost_nanos END), 0)::bigint AS nanos
      FROM tried
    ), locked AS (
      SELECT c.* FROM open r CROSS JOIN LATERAL ${SCOPES_OF_REQUEST}
      JOIN spend_counters c ON (c.scope_type, c.scope_id) = (s.scope_type, s.scope_id)
        AND c.period_start = ${periodStart(sql`c.period`, sql`r.timestamp`)}
      ORDER BY c.scope_type, c.scope_id, c.period FOR UPDATE OF c
    ), closed AS (
      -- After the counters are locked, as everywhere, so that nobody waits in a circle.
      UPDATE reservations r SET settled_nanos = total.nanos, settled_at = now()
      FROM total, open, (SELECT count(*) FROM locked) AS after_locks
      WHERE r.request_id = open.id AND r.settled_at IS NULL
      RETURNING r.scope_type, r.scope_id, r.period, r.reserved_nanos
    ), counted AS (
      UPDATE spend_counters c
      SET reserved_nanos = c.reserved_nanos - coalesce(closed.reserved_nanos, 0), spent_nanos = c.spent_nanos + total.nanos
      FROM total, locked l LEFT JOIN closed
        ON (closed.scope_type, closed.scope_id, closed.period) = (l.scope_type, l.scope_id, l.period)
      WHERE (c.scope_type, c.scope_id, c.period, c.period_start) = (l.scope_type, l.scope_id, l.period, l.period_start)
      RETURNING c.*
    ), alerts AS (
      INSERT INTO budget_alerts (id, budget_id, period_start, threshold, request_id, spent_nanos, limit_nanos)
      SELECT b.id || '-' || c.period_start || '-' || t.threshold, b.id, c.period_start, t.threshold, ${requestId}, c.spent_nanos, b.limit_nanos
      FROM counted c
      JOIN budgets b ON (b.scope_type, b.scope_id, b.period) = (c.scope_type, c.scope_id, c.period)
      CROSS JOIN unnest(${[...BUDGET_THRESHOLDS]}::integer[]) AS t (threshold)
      WHERE c.spent_nanos > 0 AND c.spent_nanos::numeric * 100 >= b.limit_nanos::numeric * t.threshold
      ON CONFLICT DO NOTHING
      RETURNING id
    ), winner AS (
      SELECT * FROM tried WHERE state = 'succeeded' ORDER BY finished_at DESC LIMIT 1
    ), ended AS (
      UPDATE llm_requests r SET
        state = ${state},
        status = CASE WHEN ${state} <> 'completed' THEN 'failure'
                      WHEN (SELECT target_index FROM winner) > 0 THEN 'fallback' ELSE 'success' END,
        cost_nanos = total.nanos,
        model_used = winner.model,
        provider_used = winner.provider,
        latency_ms = winner.latency_ms,
        prompt_tokens = winner.prompt_tokens,
        completion_tokens = winner.completion_tokens,
        total_tokens = winner.prompt_tokens + winner.completion_tokens,
        error_code = ${error?.code ?? null},
        error_message = ${error?.message ?? null},
        error_param = ${error?.param ?? null},
        completed_at = now()
      FROM total, open LEFT JOIN winner ON true
      WHERE r.id = open.id
    )
    SELECT EXISTS (SELECT 1 FROM latest) AND NOT EXISTS (SELECT 1 FROM unsettled) AS stale,
           EXISTS (SELECT 1 FROM finished) AS finished,
           (SELECT count(*) FROM tried) AS attempts,
           (SELECT nanos FROM total) AS "costNanos",
           ARRAY(SELECT id FROM alerts UNION SELECT id FROM budget_alerts WHERE request_id = ${requestId}) AS alerts`.execute(
    db,
  );
  return rows[0] as Settled;
}
