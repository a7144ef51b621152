import { type RawBuilder, type Selectable, sql } from 'kysely';
import type { ErrorInfo } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Pattern, StepState } from '../../domain/pipeline.ts';
import type { StreamItem } from '../../domain/stream-item.ts';
import { insertBody, type SealedBody } from './bodies.ts';
import type { Sql } from './database.ts';
import { toErrorInfo } from './error-columns.ts';
import type { RunEvents } from './run-events.ts';
import type { RunStepsTable } from './tables/agents.ts';

export interface NewStep {
  readonly runId: string;
  readonly name: string;
  readonly parent: string | null;
  readonly pattern: Pattern;
  readonly agent: { readonly id: string; readonly name: string } | null;
  readonly input: SealedBody;
}

export interface StepEnd {
  readonly runId: string;
  readonly name: string;
  readonly state: Exclude<StepState, 'running'>;
  readonly outputRef: string | null;
  readonly error: ErrorInfo | null;
}

/** A step of a pipeline that has begun. */
export interface RunStep {
  readonly name: string;
  readonly parent: string | null;
  readonly pattern: Pattern;
  readonly agentId: string | null;
  readonly agent: string | null;
  readonly state: StepState;
  readonly inputRef: string | null;
  readonly outputRef: string | null;
  readonly error: ErrorInfo | null;
  /** Done by the run that this one repeats. */
  readonly kept: boolean;
  /** Of its settled model calls. */
  readonly costNanos: NanoDollars;
  readonly startedAt: Date;
  readonly completedAt: Date | null;
}

/** The steps of pipelines, as their workflows say. */
export class RunSteps {
  private readonly db: Sql;
  private readonly events: RunEvents;

  constructor(db: Sql, events: RunEvents) {
    this.db = db;
    this.events = events;
  }

  /** A step that is under way already stays as it is. */
  async begin({ runId, name, parent, pattern, agent, input }: NewStep): Promise<void> {
    const item: StreamItem = {
      type: 'step',
      step: name,
      pattern,
      ...(agent && { agent: agent.name }),
      ...(parent !== null && { parent }),
      state: 'running',
    };
    await sql`${insertBody(input)}`.execute(this.db);
    await this.events.tell(
      runId,
      item,
      sql`
        INSERT INTO run_steps AS s (run_id, name, parent, pattern, agent_id, agent, state, input_ref)
        SELECT ${runId}, ${name}, ${parent}::text, ${pattern}, ${agent?.id ?? null}::text, ${agent?.name ?? null}::text,
               'running', ${input.ref}
        WHERE EXISTS (SELECT 1 FROM runs WHERE id = ${runId} AND completed_at IS NULL)
        ON CONFLICT (run_id, name) DO UPDATE
        SET agent_id = excluded.agent_id, agent = excluded.agent, state = 'running', input_ref = excluded.input_ref,
            output_ref = NULL, error_code = NULL, error_message = NULL, error_param = NULL, kept = false,
            started_at = now(), completed_at = NULL
        WHERE s.state <> 'running'
        RETURNING name`,
    );
  }

  /** A step that has ended already stays as it is. */
  async finish({ runId, name, state, outputRef, error }: StepEnd): Promise<void> {
    const step = await this.find(runId, name);
    if (!step) return;
    const { pattern, agent, parent } = step;
    const item: StreamItem = {
      type: 'step',
      step: name,
      pattern,
      ...(agent !== null && { agent }),
      ...(parent !== null && { parent }),
      state,
      ...(error && { error }),
    };
    await this.events.tell(
      runId,
      item,
      sql`
        UPDATE run_steps SET state = ${state}, output_ref = ${outputRef}, completed_at = now(),
          error_code = ${error?.code ?? null}, error_message = ${error?.message ?? null},
          error_param = ${error?.param ?? null}
        WHERE run_id = ${runId} AND name = ${name} AND state = 'running' RETURNING name`,
    );
  }

  async find(runId: string, name: string): Promise<RunStep | undefined> {
    return (await this.selected(sql`run_id = ${runId} AND name = ${name}`))[0];
  }

  /** In the order in which they began. */
  list(runId: string): Promise<readonly RunStep[]> {
    return this.selected(sql`run_id = ${runId}`);
  }

  /** Outputs of finished steps, by name. */
  async outputs(runId: string): Promise<ReadonlyMap<string, string>> {
    const rows = await this.db
      .selectFrom('run_steps')
      .select(['name', 'output_ref'])
      .where('run_id', '=', runId)
      .where('state', '=', 'completed')
      .execute();
    return new Map(rows.flatMap(({ name, output_ref }) => (output_ref === null ? [] : [[name, output_ref]])));
  }

  /** Lets a new run have what steps of another came to, and of those that worked for them. */
  async keep(db: Sql, runId: string, { from, steps }: { readonly from: string; readonly steps: readonly string[] }) {
    await sql`
      INSERT INTO run_steps (run_id, name, parent, pattern, agent_id, agent, state, input_ref, output_ref, kept,
                             started_at, completed_at)
      SELECT ${runId}, name, parent, pattern, agent_id, agent, state, input_ref, output_ref, true, started_at, completed_at
      FROM run_steps s
      WHERE run_id = ${from} AND state = 'completed' AND (name = ANY (${[...steps]}::text[]) OR EXISTS (
        -- A supervisor that is asked again may hand out other tasks.
        SELECT 1 FROM run_steps p
        WHERE p.run_id = s.run_id AND p.name = s.parent AND p.state = 'completed'
          AND p.name = ANY (${[...steps]}::text[])))`.execute(db);
  }

  /** What the settled calls of a run cost. */
  async spent(runId: string): Promise<NanoDollars> {
    const { rows } = await sql<{ nanos: number }>`
      SELECT coalesce(sum(cost_nanos), 0)::bigint AS nanos FROM llm_requests WHERE run_id = ${runId}`.execute(this.db);
    return rows[0]?.nanos ?? 0;
  }

  private async selected(which: RawBuilder<unknown>): Promise<readonly RunStep[]> {
    const { rows } = await sql<Row>`
      SELECT s.*, (
        -- Their ids are those of run and step, and the number of the turn.
        SELECT coalesce(sum(r.cost_nanos), 0)::bigint FROM llm_requests r
        WHERE r.run_id = s.run_id AND regexp_replace(r.id, '[.][0-9]+$', '') = s.run_id || '.' || s.name
      ) AS cost_nanos
      FROM run_steps s WHERE ${which} ORDER BY started_at, name`.execute(this.db);
    return rows.map((row) => ({
      name: row.name,
      parent: row.parent,
      pattern: row.pattern,
      agentId: row.agent_id,
      agent: row.agent,
      state: row.state,
      inputRef: row.input_ref,
      outputRef: row.output_ref,
      error: toErrorInfo(row),
      kept: row.kept,
      costNanos: row.cost_nanos,
      startedAt: row.started_at,
      completedAt: row.completed_at,
    }));
  }
}

type Row = Selectable<RunStepsTable> & { readonly cost_nanos: NanoDollars };
