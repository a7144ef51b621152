import { sql } from 'kysely';
import type { ErrorInfo } from '../../domain/errors.ts';
import { LOST } from './attempts.ts';
import type { Sql } from './database.ts';

/** How a request ended. Everything else is in its attempts. */
export interface Ending {
  readonly requestId: string;
  readonly state: 'completed' | 'failed' | 'cancelled';
  readonly error?: ErrorInfo;
}

/**
 * The money saga's second half, in one statement: attempts nobody finished become `unknown` at their maximum, the sum
 * of all attempts is booked as spent, the rest of the reservation is freed, and the ledger row is closed. Idempotent:
 * a request that is settled stays as it is.
 */
export async function settle(db: Sql, { requestId, state, error }: Ending): Promise<void> {
  await sql`
    WITH open AS (
      SELECT id FROM llm_requests WHERE id = ${requestId} AND completed_at IS NULL FOR UPDATE
    ), tried AS (
      -- Locked, so that an attempt journalled at this moment is seen with its outcome.
      SELECT a.* FROM attempts a JOIN open ON a.request_id = open.id FOR UPDATE OF a
    ), lost AS (
      UPDATE attempts a SET state = 'unknown', cost_nanos = a.max_cost_nanos, finished_at = clock_timestamp(),
        error_code = 'gateway_unavailable', error_message = ${LOST}
      FROM tried t
      WHERE (a.request_id, a.target_index, a.n) = (t.request_id, t.target_index, t.n) AND t.state = 'claimed'
    ), total AS (
      SELECT coalesce(sum(CASE WHEN state = 'claimed' THEN max_cost_nanos ELSE cost_nanos END), 0)::bigint AS nanos
      FROM tried
    ), closed AS (
      UPDATE reservations r SET settled_nanos = total.nanos, settled_at = now()
      FROM total, open WHERE r.request_id = open.id AND r.settled_at IS NULL
      RETURNING r.scope_type, r.scope_id, r.period_start, r.reserved_nanos
    ), counted AS (
      UPDATE spend_counters c
      SET reserved_nanos = c.reserved_nanos - closed.reserved_nanos, spent_nanos = c.spent_nanos + total.nanos
      FROM closed, total
      WHERE (c.scope_type, c.scope_id, c.period_start) = (closed.scope_type, closed.scope_id, closed.period_start)
    ), winner AS (
      SELECT * FROM tried WHERE state = 'succeeded' ORDER BY finished_at DESC LIMIT 1
    )
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
    WHERE r.id = open.id`.execute(db);
}
