import { sql } from 'kysely';
import type { ErrorInfo } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { RunLimits } from '../../domain/pipeline-run.ts';
import { isFinal, type RunKind, type RunState } from '../../domain/run-state.ts';
import type { Attribution } from '../../domain/scope.ts';
import { RUN_EPOCH } from '../../domain/stream-item.ts';
import { insertBody, type SealedBody } from './bodies.ts';
import type { Sql } from './database.ts';
import { toErrorInfo } from './error-columns.ts';
import type { Visible } from './requests.ts';
import type { RunEvents } from './run-events.ts';

export interface NewRun {
  readonly id: string;
  readonly kind: RunKind;
  readonly owner: string;
  readonly attribution: Omit<Attribution, 'organisation'>;
  readonly model: string | null;
  readonly priority: number;
  readonly input: SealedBody;
  readonly metadata: Readonly<Record<string, string>>;
  readonly deadlineAt: Date;
  readonly maxCostNanos: NanoDollars | null;
  /** Sealed. */
  readonly webhook: Buffer | null;
  readonly retryOf: string | null;
  readonly rerunOf: string | null;
}

/** A run in the background. */
export interface Run {
  readonly id: string;
  readonly kind: RunKind;
  readonly owner: string;
  readonly team: string | null;
  readonly project: string | null;
  readonly model: string | null;
  readonly state: RunState;
  /** Number of the event by which it came into its state. */
  readonly stateSeq: number;
  readonly priority: number;
  readonly inputRef: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly deadlineAt: Date;
  readonly maxCostNanos: NanoDollars | null;
  /** Of a pipeline. */
  readonly maxSteps: number | null;
  readonly maxDurationMs: number | null;
  readonly webhook: Buffer | null;
  readonly retryOf: string | null;
  readonly rerunOf: string | null;
  readonly error: ErrorInfo | null;
  /** Of all its settled calls. */
  readonly costNanos: NanoDollars;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly completedAt: Date | null;
}

export interface RunFilter {
  readonly visible: Visible | undefined;
  readonly kind?: RunKind | undefined;
  readonly state?: RunState | undefined;
  readonly team?: string | undefined;
  readonly model?: string | undefined;
  readonly since?: Date | undefined;
}

export interface RunPage extends RunFilter {
  readonly limit: number;
  /** Runs older than this one. */
  readonly cursor?: string | undefined;
}

export interface Transition {
  readonly state: RunState;
  readonly error?: ErrorInfo | undefined;
}

/** Runs in the background and the states they go through. */
export class Runs {
  private readonly db: Sql;
  private readonly events: RunEvents;

  constructor(db: Sql, events: RunEvents) {
    this.db = db;
    this.events = events;
  }

  /** Stores a run as `queued`, within the caller's transaction if `db` is one. */
  async insert(db: Sql, run: NewRun): Promise<void> {
    const { attribution, input } = run;
    await sql`
      WITH body AS (${insertBody(input)}), event AS (
        INSERT INTO run_events (run_id, seq, count, epoch, content)
        VALUES (${run.id}, 0, 1, 0, ${this.events.seal([{ type: 'state', state: 'queued' }])})
      )
      INSERT INTO runs (id, kind, owner, virtual_key_id, team, project, user_id, model, state, priority, input_ref,
                        metadata, deadline_at, max_cost_nanos, webhook, retry_of, rerun_of)
      VALUES (${run.id}, ${run.kind}, ${run.owner}, ${attribution.keyId}, ${attribution.team}, ${attribution.project},
              ${attribution.user}, ${run.model}, 'queued', ${run.priority}, ${input.ref},
              ${JSON.stringify(run.metadata)}::jsonb, ${run.deadlineAt}, ${run.maxCostNanos}, ${run.webhook},
              ${run.retryOf}, ${run.rerunOf})`.execute(db);
  }

  /**
   * Brings a run into a state and its readers the news. A run that is in it already, or that has ended, stays as it is.
   * Returns whether it changed.
   */
  async transition(runId: string, { state, error }: Transition): Promise<boolean> {
    const final = isFinal(state);
    const change = sql<{ id: string }>`
      UPDATE runs SET state = ${state}, state_seq = last.next,
        started_at = CASE WHEN ${state} = 'running' THEN coalesce(started_at, now()) ELSE started_at END,
        completed_at = CASE WHEN ${final} THEN now() END,
        error_code = ${error?.code ?? null}, error_message = ${error?.message ?? null},
        error_param = ${error?.param ?? null}
      FROM last
      WHERE id = ${runId} AND completed_at IS NULL AND state <> ${state}
      RETURNING id`;
    const item = { type: 'state', state, ...(error && { error }) } as const;
    const epoch = final ? sql`${RUN_EPOCH}::integer` : undefined;
    return (await this.events.tell(runId, item, change, epoch)) !== undefined;
  }

  /** Those that are left out stay. Within the caller's transaction if `db` is one. */
  async setLimits(id: string, { maxCostNanos, maxSteps, maxDurationMs }: RunLimits, db: Sql = this.db): Promise<void> {
    await sql`
      UPDATE runs SET max_cost_nanos = coalesce(${maxCostNanos ?? null}::bigint, max_cost_nanos),
        max_steps = coalesce(${maxSteps ?? null}::integer, max_steps),
        max_duration_ms = coalesce(${maxDurationMs ?? null}::bigint, max_duration_ms)
      WHERE id = ${id}`.execute(db);
  }

  async find(id: string, visible: Visible | undefined): Promise<Run | undefined> {
    return (await this.selected({ visible }).where('runs.id', '=', id).execute()).map(toRun)[0];
  }

  /** Newest first. */
  async list({ limit, cursor, ...filter }: RunPage): Promise<readonly Run[]> {
    const rows = await this.selected(filter)
      .$if(cursor !== undefined, (q) =>
        q.where(
          sql<boolean>`(runs.created_at, runs.id) < (SELECT c.created_at, c.id FROM runs c WHERE c.id = ${cursor})`,
        ),
      )
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .limit(limit)
      .execute();
    return rows.map(toRun);
  }

  /** Runs accepted more than `ageSeconds` ago that have not ended, by id after `cursor`. */
  async open(ageSeconds: number, limit: number, cursor: string | undefined): Promise<readonly string[]> {
    const rows = await this.db
      .selectFrom('runs')
      .select('id')
      .where('completed_at', 'is', null)
      .where(sql<boolean>`created_at < now() - ${ageSeconds} * interval '1 second'`)
      .$if(cursor !== undefined, (q) => q.where('id', '>', cursor as string))
      .orderBy('id')
      .limit(limit)
      .execute();
    return rows.map(({ id }) => id);
  }

  /** How the model call of a run that makes one stands. */
  async callState(id: string): Promise<RunState | undefined> {
    const query = this.db.selectFrom('llm_requests').select('state').where('id', '=', id);
    return (await query.executeTakeFirst())?.state;
  }

  private selected({ visible, kind, state, team, model, since }: RunFilter) {
    return this.db
      .selectFrom('runs')
      .select([
        'id',
        'kind',
        'owner',
        'team',
        'project',
        'model',
        'state',
        'state_seq',
        'priority',
        'input_ref',
        'metadata',
      ])
      .select(['max_steps', 'max_duration_ms'])
      .select(['deadline_at', 'max_cost_nanos', 'webhook', 'retry_of', 'rerun_of', 'error_code', 'error_message'])
      .select(['error_param', 'created_at', 'started_at', 'completed_at'])
      .select(
        sql<number>`(SELECT coalesce(sum(r.cost_nanos), 0)::bigint FROM llm_requests r WHERE r.run_id = runs.id)`.as(
          'cost_nanos',
        ),
      )
      .$if(visible !== undefined, (q) => q.where('owner', '=', visible?.owner ?? ''))
      .$if(visible?.project !== undefined, (q) => q.where('project', '=', visible?.project ?? ''))
      .$if(kind !== undefined, (q) => q.where('kind', '=', kind as RunKind))
      .$if(state !== undefined, (q) => q.where('state', '=', state as RunState))
      .$if(team !== undefined, (q) => q.where('team', '=', team as string))
      .$if(model !== undefined, (q) => q.where('model', '=', model as string))
      .$if(since !== undefined, (q) => q.where('created_at', '>=', since as Date));
  }
}

type Row = Awaited<ReturnType<ReturnType<Runs['selected']>['execute']>>[number];

const toRun = (row: Row): Run => ({
  id: row.id,
  kind: row.kind,
  owner: row.owner,
  team: row.team,
  project: row.project,
  model: row.model,
  state: row.state,
  stateSeq: row.state_seq,
  priority: row.priority,
  inputRef: row.input_ref,
  metadata: row.metadata,
  deadlineAt: row.deadline_at,
  maxCostNanos: row.max_cost_nanos,
  maxSteps: row.max_steps,
  maxDurationMs: row.max_duration_ms,
  webhook: row.webhook,
  retryOf: row.retry_of,
  rerunOf: row.rerun_of,
  error: toErrorInfo(row),
  costNanos: row.cost_nanos,
  createdAt: row.created_at,
  startedAt: row.started_at,
  completedAt: row.completed_at,
});
