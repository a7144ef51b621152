import { type RawBuilder, sql } from 'kysely';
import type { AttemptKey, AttemptState, TargetKey } from '../../domain/attempt.ts';
import type { ErrorInfo } from '../../domain/errors.ts';
import type { NanoDollars, Usage } from '../../domain/money.ts';
import { keepBody, type SealedBody } from './bodies.ts';
import type { Sql } from './database.ts';
import { type ErrorColumns, toErrorInfo } from './error-columns.ts';
import { openRequest } from './requests.ts';

export interface Claim extends AttemptKey {
  readonly provider: string;
  readonly model: string;
  /** The claiming process. */
  readonly owner: string;
  readonly maxCostNanos: NanoDollars;
  /** The stored key it is made with; null for the provider's configured one. */
  readonly providerKeyId?: string | null;
}

/** One provider call as the journal has it. */
export interface Attempt extends AttemptKey {
  readonly state: AttemptState;
  readonly owner: string;
  readonly providerKeyId: string | null;
  /** false once the lease of the owner ended: nobody will journal a `claimed` attempt any more. */
  readonly ownerAlive: boolean;
  readonly responseRef: string | null;
  readonly latencyMs: number | null;
  /** Milliseconds since it ended; null while it is claimed. */
  readonly endedAgoMs: number | null;
  readonly error: ErrorInfo | null;
}

export interface Outcome {
  readonly state: Exclude<AttemptState, 'claimed'>;
  readonly latencyMs: number;
  readonly usage: Usage | null;
  readonly costNanos: NanoDollars;
  /** What cached input would have cost more at the full price. @default 0 */
  readonly cacheSavingsNanos?: NanoDollars;
  readonly response?: SealedBody;
  readonly error?: ErrorInfo;
}

export type Finished =
  | { readonly accepted: false }
  | {
      readonly accepted: true;
      /** The request's totals over all targets, this attempt included. */
      readonly attempts: number;
      readonly costNanos: NanoDollars;
      /** Budget alerts that the request's settlement caused, if it was settled with it. */
      readonly alerts?: readonly string[];
    };

/** The claims and outcomes of provider calls. */
export class Attempts {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Takes attempt `n`. `taken`: somebody else has it. `closed`: the request is settled, nothing may be called for it. */
  async claim(claim: Claim): Promise<'claimed' | 'taken' | 'closed'> {
    const { rows } = await sql<{ open: boolean; claimed: boolean }>`
      WITH open AS (${openRequest(claim.requestId)}
      ), claimed AS (${insertClaim(claim, sql`open`)}
      )
      SELECT EXISTS (SELECT 1 FROM open) AS open, EXISTS (SELECT 1 FROM claimed) AS claimed`.execute(this.db);
    if (rows[0]?.claimed) return 'claimed';
    return rows[0]?.open ? 'taken' : 'closed';
  }

  /** Takes a claim back: the call was not made, so there is no attempt. */
  async release({ requestId, targetIndex, n }: AttemptKey, owner: string): Promise<void> {
    await sql`
      DELETE FROM attempts
      WHERE request_id = ${requestId} AND target_index = ${targetIndex} AND n = ${n} AND owner = ${owner}
        AND state = 'claimed'`.execute(this.db);
  }

  /** All attempts at one target, oldest first. */
  async ofTarget({ requestId, targetIndex }: TargetKey): Promise<readonly Attempt[]> {
    const rows = await this.db
      .selectFrom('attempts')
      .leftJoin('processes', 'processes.id', 'attempts.owner')
      .select(['n', 'state', 'owner', 'provider_key_id', 'response_ref', 'latency_ms'])
      .select(['error_code', 'error_message', 'error_param', 'retry_after_ms', 'provider_status'])
      .select(sql<boolean>`coalesce(processes.lease_expires_at > now(), false)`.as('owner_alive'))
      .select(sql<number | null>`(1000 * extract(epoch FROM clock_timestamp() - finished_at))::float8`.as('ended_ago'))
      .where('request_id', '=', requestId)
      .where('target_index', '=', targetIndex)
      .orderBy('n')
      .execute();
    return rows.map((row) => ({
      requestId,
      targetIndex,
      n: row.n,
      state: row.state,
      owner: row.owner,
      providerKeyId: row.provider_key_id,
      ownerAlive: row.owner_alive,
      responseRef: row.response_ref,
      latencyMs: row.latency_ms,
      endedAgoMs: row.ended_ago,
      error: toAttemptError(row),
    }));
  }

  /**
   * Journals how a claimed attempt ended. Not accepted if the claim was lost meanwhile: the attempt is `unknown` and
   * stays so, at its reserved maximum, but its row keeps the usage that came late.
   */
  async finish(key: AttemptKey, outcome: Outcome): Promise<Finished> {
    const { rows } = await sql<{ state: AttemptState; others: number; others_cost: number }>`
      WITH body AS (${insertResponse(outcome)}
      ), other AS (
        SELECT count(*) AS others, coalesce(sum(cost_nanos), 0)::bigint AS others_cost
        FROM attempts
        WHERE request_id = ${key.requestId} AND (target_index, n) <> (${key.targetIndex}::integer, ${key.n}::integer)
      )
      UPDATE attempts SET ${outcomeColumns(outcome)}
      FROM other
      WHERE request_id = ${key.requestId} AND target_index = ${key.targetIndex} AND n = ${key.n}
        AND state IN ('claimed', 'unknown') AND latency_ms IS NULL
      RETURNING state, others, others_cost`.execute(this.db);
    const row = rows[0];
    if (row?.state !== outcome.state) return { accepted: false };
    return { accepted: true, attempts: row.others + 1, costNanos: row.others_cost + outcome.costNanos };
  }

  /** Gives up on an attempt whose process is gone: `unknown`, booked at its reserved maximum. */
  async markUnknown(key: AttemptKey): Promise<void> {
    await sql`
      UPDATE attempts SET state = 'unknown', cost_nanos = max_cost_nanos, finished_at = clock_timestamp(),
        error_code = 'gateway_unavailable', error_message = ${LOST}
      WHERE request_id = ${key.requestId} AND target_index = ${key.targetIndex} AND n = ${key.n} AND state = 'claimed'
    `.execute(this.db);
  }

  /** What the attempts of a request cost so far, and how many there were. */
  async totals(requestId: string): Promise<{ readonly attempts: number; readonly costNanos: NanoDollars }> {
    const row = await this.db
      .selectFrom('attempts')
      .select((eb) => [
        eb.fn.countAll<number>().as('attempts'),
        eb.fn.coalesce(eb.fn.sum<string>('cost_nanos'), sql.lit('0')).as('cost'),
      ])
      .where('request_id', '=', requestId)
      .executeTakeFirstOrThrow();
    return { attempts: row.attempts, costNanos: Number(row.cost) };
  }
}

/** Takes an attempt of the request in `open`, if nobody has it. */
export const insertClaim = (claim: Claim, open: RawBuilder<unknown>) => sql`
  INSERT INTO attempts (request_id, target_index, n, provider, model, state, owner, max_cost_nanos, provider_key_id)
  SELECT id, ${claim.targetIndex}::integer, ${claim.n}::integer, ${claim.provider}, ${claim.model},
         'claimed', ${claim.owner}, ${claim.maxCostNanos}::bigint, ${claim.providerKeyId ?? null}
  FROM ${open}
  ON CONFLICT DO NOTHING
  RETURNING n`;

export const insertResponse = ({ response }: Outcome) => sql`
  INSERT INTO bodies (ref, content)
  SELECT ${response?.ref ?? null}, ${response?.content ?? null}::bytea WHERE ${response !== undefined}::boolean
  ${keepBody}`;

/** What an outcome makes of the row of its attempt. */
export const outcomeColumns = ({ state, latencyMs, usage, response, error, ...cost }: Outcome) => sql`
  state = CASE WHEN state = 'claimed' THEN ${state} ELSE state END,
  cost_nanos = CASE WHEN state = 'claimed' THEN ${cost.costNanos}::bigint ELSE cost_nanos END,
  cache_savings_nanos = CASE WHEN state = 'claimed' THEN ${cost.cacheSavingsNanos ?? 0}::bigint ELSE 0 END,
  response_ref = CASE WHEN state = 'claimed' THEN ${response?.ref ?? null} ELSE response_ref END,
  error_code = coalesce(error_code, ${error?.code ?? null}),
  error_message = coalesce(error_message, ${error?.message ?? null}),
  error_param = coalesce(error_param, ${error?.param ?? null}),
  retry_after_ms = ${error?.retryAfterMs === undefined ? null : Math.ceil(error.retryAfterMs)},
  provider_status = ${error?.providerStatus ?? null},
  prompt_tokens = ${usage?.inputTokens ?? null},
  cached_tokens = ${usage?.cachedInputTokens ?? null},
  cache_write_tokens = ${usage?.cacheWriteTokens ?? null},
  completion_tokens = ${usage?.outputTokens ?? null},
  reasoning_tokens = ${usage?.reasoningTokens ?? null},
  audio_input_tokens = ${usage?.audioInputTokens ?? null},
  audio_output_tokens = ${usage?.audioOutputTokens ?? null},
  input_images = ${usage?.inputImages ?? null},
  usage_estimated = ${usage?.estimated ?? false},
  latency_ms = ${Math.round(latencyMs)},
  finished_at = clock_timestamp()`;

type AttemptError = ErrorColumns & Readonly<Record<'retry_after_ms' | 'provider_status', number | null>>;

function toAttemptError(row: AttemptError): ErrorInfo | null {
  const error = toErrorInfo(row);
  return (
    error && {
      ...error,
      ...(row.retry_after_ms !== null && { retryAfterMs: row.retry_after_ms }),
      ...(row.provider_status !== null && { providerStatus: row.provider_status }),
    }
  );
}

/** Why an attempt is `unknown` when its process vanished. */
export const LOST = 'The process that made this call was lost before it saw the end of it.';
