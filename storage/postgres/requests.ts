import { sql } from 'kysely';
import { type ErrorCode, type ErrorInfo, HoldfastError } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { RunState } from '../../domain/run-state.ts';
import type { Attribution } from '../../domain/scope.ts';
import type { SealedBody } from './bodies.ts';
import { isUniqueViolation, type Sql } from './database.ts';

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

export class Requests {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Commits a request and its body. Throws `caller_conflict` when the owner already used the request id. */
  async insert(request: NewRequest): Promise<void> {
    const { attribution, body } = request;
    try {
      await sql`
        WITH body AS (
          INSERT INTO bodies (ref, content) VALUES (${body.ref}, ${body.content}) ON CONFLICT DO NOTHING
        )
        INSERT INTO llm_requests
          (id, run_id, request_id, owner, virtual_key_id, organisation, team, project, user_id, feature, markup_percent,
           surface, prompt, body_ref, model_requested, parameters, state)
        VALUES
          (${request.id}, ${request.runId}, ${request.requestId}, ${request.owner}, ${attribution.keyId},
           ${attribution.organisation}, ${attribution.team}, ${attribution.project}, ${attribution.user},
           ${request.feature}, ${request.markupPercent}, ${request.surface}, ${request.prompt}, ${body.ref},
           ${request.modelRequested}, ${JSON.stringify(request.parameters)}::jsonb, 'queued')`.execute(this.db);
    } catch (error) {
      if (!isUniqueViolation(error, 'llm_requests_owner_request_id_key')) throw error;
      throw new HoldfastError(
        'caller_conflict',
        `x-request-id '${request.requestId}' was used before. GET /v1/chat/completions/${request.requestId} returns its answer.`,
        { param: 'x-request-id' },
      );
    }
  }

  /**
   * A request by its id, if it is `visible` (undefined sees all), or by the `x-request-id` that `owner` gave it.
   */
  async find(idOrRequestId: string, owner: string, visible: Visible | undefined): Promise<StoredRequest | undefined> {
    const row = await this.db
      .selectFrom('llm_requests')
      .select(['id', 'run_id', 'surface', 'state', 'timestamp', 'error_code', 'error_message', 'error_param'])
      .where((eb) =>
        eb.or([eb.and({ id: idOrRequestId, ...visible }), eb.and({ request_id: idOrRequestId, owner, ...visible })]),
      )
      .executeTakeFirst();
    if (!row) return undefined;
    const { id, run_id: runId, surface, state, timestamp, error_code, error_message, error_param } = row;
    const error = error_code
      ? { code: error_code as ErrorCode, message: error_message ?? '', ...(error_param && { param: error_param }) }
      : null;
    return { id, runId, surface, state, timestamp, answer: await this.answer(id), error };
  }

  /** The answer of a request as the journal has it, settled or not. */
  async answer(id: string): Promise<StoredAnswer | null> {
    const attempts = await this.db
      .selectFrom('attempts')
      .select(['provider', 'state', 'response_ref', 'latency_ms', 'cost_nanos'])
      .where('request_id', '=', id)
      .orderBy('target_index')
      .orderBy('n')
      .execute();
    const winner = attempts.find((attempt) => attempt.state === 'succeeded');
    if (!winner?.response_ref) return null;
    return {
      responseRef: winner.response_ref,
      provider: winner.provider,
      latencyMs: winner.latency_ms ?? 0,
      costNanos: attempts.reduce((sum, attempt) => sum + attempt.cost_nanos, 0),
      attempts: attempts.length,
      firstProvider: attempts[0]?.provider ?? winner.provider,
    };
  }
}
