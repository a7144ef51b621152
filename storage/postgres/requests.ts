import { sql } from 'kysely';
import { type ErrorInfo, HoldfastError } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { RunState } from '../../domain/run-state.ts';
import type { Attribution } from '../../domain/scope.ts';
import { insertBody, type SealedBody } from './bodies.ts';
import { isUniqueViolation, type Sql } from './database.ts';
import { toErrorInfo } from './error-columns.ts';

/** Which requests a caller may see. */
export interface Visible {
  readonly owner: string;
  /** Only those of this project. */
  readonly project?: string;
}

export interface NewRequest {
  readonly id: string;
  readonly runId: string;
  readonly requestId: string;
  readonly acceptedAt: Date;
  /** By who authenticated: whose request it is, whomever it is counted for. Its `requestId` is unique within. */
  readonly owner: string;
  readonly attribution: Attribution;
  readonly feature: string | null;
  readonly markupPercent: number;
  readonly surface: string;
  readonly modelRequested: string;
  readonly prompt: string;
  readonly parameters: Record<string, unknown>;
  readonly body: SealedBody;
}

/** A stored request with what is needed to answer its caller again. */
export interface StoredRequest {
  readonly id: string;
  readonly runId: string;
  readonly requestId: string;
  readonly surface: string;
  readonly state: RunState;
  readonly timestamp: Date;
  /** null while it runs, and when it failed. */
  readonly answer: StoredAnswer | null;
  /** null unless it failed. */
  readonly error: ErrorInfo | null;
}

export interface StoredAnswer {
  readonly responseRef: string;
  readonly provider: string;
  readonly latencyMs: number;
  readonly costNanos: NanoDollars;
  readonly attempts: number;
  /** Provider of the first target. */
  readonly firstProvider: string;
}

/** The row of a request; its body is stored beside it. */
export const insertRequest = (
  { attribution, body, ...request }: NewRequest,
  { state, sharedKey }: { readonly state: RunState; readonly sharedKey: string | null },
) => sql`
  INSERT INTO llm_requests
    (id, run_id, request_id, timestamp, owner, virtual_key_id, organisation, team, project, user_id, feature, markup_percent,
     surface, prompt, body_ref, model_requested, parameters, state, shared_key)
  VALUES
    (${request.id}, ${request.runId}, ${request.requestId}, ${request.acceptedAt}, ${request.owner},
     ${attribution.keyId}, ${attribution.organisation}, ${attribution.team}, ${attribution.project}, ${attribution.user},
     ${request.feature}, ${request.markupPercent}, ${request.surface}, ${request.prompt}, ${body.ref},
     ${request.modelRequested}, ${JSON.stringify(request.parameters)}::jsonb, ${state}, ${sharedKey})`;

/**
 * The request, unless it is settled. Updated and not only locked, so that a settlement that waits meanwhile notices that
 * what it saw is out of date: otherwise it would leave behind what is reserved here.
 */
export const openRequest = (requestId: string) => sql`
  UPDATE llm_requests SET state = 'running' WHERE id = ${requestId} AND completed_at IS NULL RETURNING *`;

/** Says it as the caller did when `error` is an `x-request-id` that was used before. */
export function toRequestIdConflict(error: unknown, requestId: string): unknown {
  if (!isUniqueViolation(error, 'llm_requests_owner_request_id_key')) return error;
  return new HoldfastError(
    'caller_conflict',
    `x-request-id '${requestId}' was used before. GET /v1/chat/completions/${requestId} returns its answer.`,
    { param: 'x-request-id' },
  );
}

export class Requests {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /**
   * Commits a request and its body, within the caller's transaction if `db` is one. Throws `caller_conflict` when the
   * owner already used the request id.
   */
  async insert(request: NewRequest, db: Sql = this.db): Promise<void> {
    try {
      await this.insertRow(db, request, null);
    } catch (error) {
      throw toRequestIdConflict(error, request.requestId);
    }
  }

  /** Commits requests of one run with their bodies; those that are there stay as they are. */
  async insertMissing(requests: readonly NewRequest[]): Promise<void> {
    if (requests.length === 0) return;
    const bodies = [...new Map(requests.map(({ body }) => [body.ref, body])).values()];
    await this.db
      .insertInto('bodies')
      .values(bodies.map(({ ref, content }) => ({ ref, content })))
      .onConflict((conflict) => conflict.column('ref').doUpdateSet({ created_at: sql`now()` }))
      .execute();
    await this.db
      .insertInto('llm_requests')
      .values(requests.map(toRow))
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }

  /** Lets another request have the `x-request-id` of one that failed. */
  async releaseRequestId(id: string, db: Sql): Promise<void> {
    await sql`UPDATE llm_requests SET request_id = id WHERE id = ${id}`.execute(db);
  }

  /** Commits a request that others may join while it is under way; false if there is one to join already. */
  async insertShared(request: NewRequest, sharedKey: string): Promise<boolean> {
    try {
      await this.insertRow(this.db, request, sharedKey);
      return true;
    } catch (error) {
      if (isUniqueViolation(error, 'llm_requests_shared_key')) return false;
      throw error;
    }
  }

  /** Adds a caller to the shared request under way. Returns its id, or undefined if there is none, or it is answered. */
  async join(owner: string, sharedKey: string): Promise<string | undefined> {
    const { rows } = await sql<{ id: string }>`
      UPDATE llm_requests SET callers = callers + 1
      WHERE owner = ${owner} AND shared_key = ${sharedKey} AND completed_at IS NULL AND callers > 0
        AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = llm_requests.id AND a.state = 'succeeded')
      RETURNING id`.execute(this.db);
    return rows[0]?.id;
  }

  /** A caller hung up. Returns whether it was the last one; nobody joins the request then. */
  async leave(id: string): Promise<boolean> {
    const { rows } = await sql<{ callers: number }>`
      UPDATE llm_requests SET callers = callers - 1 WHERE id = ${id} RETURNING callers`.execute(this.db);
    return rows[0]?.callers === 0;
  }

  private async insertRow(db: Sql, request: NewRequest, sharedKey: string | null): Promise<void> {
    await sql`
      WITH body AS (${insertBody(request.body)})
      ${insertRequest(request, { state: 'queued', sharedKey })}`.execute(db);
  }

  /**
   * A request by its id, if it is `visible` (undefined sees all), or by the `x-request-id` that `owner` gave it.
   */
  async find(idOrRequestId: string, owner: string, visible: Visible | undefined): Promise<StoredRequest | undefined> {
    const row = await this.db
      .selectFrom('llm_requests')
      .select([
        'id',
        'run_id',
        'request_id',
        'surface',
        'state',
        'timestamp',
        'error_code',
        'error_message',
        'error_param',
      ])
      .where((eb) =>
        eb.or([eb.and({ id: idOrRequestId, ...visible }), eb.and({ request_id: idOrRequestId, owner, ...visible })]),
      )
      .executeTakeFirst();
    if (!row) return undefined;
    const { id, run_id: runId, request_id: requestId, surface, state, timestamp } = row;
    return { id, runId, requestId, surface, state, timestamp, answer: await this.answer(id), error: toErrorInfo(row) };
  }

  /** The answer of a request as the journal has it, settled or not. */
  async answer(id: string): Promise<StoredAnswer | null> {
    return (await this.answers([id])).get(id) ?? null;
  }

  /** The answers of those of the requests that have one. */
  async answers(ids: readonly string[]): Promise<ReadonlyMap<string, StoredAnswer>> {
    const attempts = await this.db
      .selectFrom('attempts')
      .select(['request_id', 'provider', 'state', 'response_ref', 'latency_ms', 'cost_nanos'])
      .where(sql<boolean>`request_id = ANY(${[...ids]}::text[])`)
      .orderBy('request_id')
      .orderBy('target_index')
      .orderBy('n')
      .execute();
    const made = new Map<string, typeof attempts>();
    for (const attempt of attempts) made.set(attempt.request_id, [...(made.get(attempt.request_id) ?? []), attempt]);
    const answers = new Map<string, StoredAnswer>();
    for (const [id, attempts] of made) {
      const winner = attempts.find((attempt) => attempt.state === 'succeeded');
      if (!winner?.response_ref) continue;
      answers.set(id, {
        responseRef: winner.response_ref,
        provider: winner.provider,
        latencyMs: winner.latency_ms ?? 0,
        costNanos: attempts.reduce((sum, attempt) => sum + attempt.cost_nanos, 0),
        attempts: attempts.length,
        firstProvider: attempts[0]?.provider ?? winner.provider,
      });
    }
    return answers;
  }
}

const toRow = ({ attribution, body, ...request }: NewRequest) => ({
  id: request.id,
  run_id: request.runId,
  request_id: request.requestId,
  timestamp: request.acceptedAt,
  owner: request.owner,
  virtual_key_id: attribution.keyId,
  organisation: attribution.organisation,
  team: attribution.team,
  project: attribution.project,
  user_id: attribution.user,
  feature: request.feature,
  markup_percent: request.markupPercent,
  surface: request.surface,
  prompt: request.prompt,
  body_ref: body.ref,
  model_requested: request.modelRequested,
  parameters: JSON.stringify(request.parameters),
  state: 'queued' as const,
});
