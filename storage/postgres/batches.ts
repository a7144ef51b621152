import { sql } from 'kysely';
import type { BatchProgress, InputProblem } from '../../domain/batch.ts';
import type { ErrorInfo } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Sql } from './database.ts';
import { toErrorInfo } from './error-columns.ts';
import type { Visible } from './requests.ts';
import type { BatchUsage } from './tables/batches.ts';

export interface NewBatch {
  readonly id: string;
  readonly endpoint: string;
  readonly inputFileId: string;
  /** Seconds its files are kept; null for the default. */
  readonly outputKeepSeconds: number | null;
}

/** A batch with what its row in `runs` says. */
export interface Batch extends NewBatch, BatchProgress {
  readonly owner: string;
  readonly project: string | null;
  /** Body: what was submitted, and by whom. */
  readonly inputRef: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly deadlineAt: Date;
  readonly maxCostNanos: NanoDollars | null;
  readonly retryOf: string | null;
  /** Of the run. */
  readonly error: ErrorInfo | null;
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
  /** Of the lines that have ended. */
  readonly costNanos: NanoDollars;
  readonly usage: BatchUsage | null;
  readonly errors: readonly InputProblem[];
  readonly outputFileId: string | null;
  readonly errorFileId: string | null;
  readonly createdAt: Date;
  readonly completedAt: Date | null;
}

export interface BatchPage {
  readonly visible: Visible | undefined;
  readonly limit: number;
  /** Those older than the batch of this id. */
  readonly after?: string | undefined;
}

/** Moments of a batch that are written down once. */
export type BatchMoment = 'in_progress_at' | 'cancelling_at' | 'finalizing_at' | 'expired_at';

/** Batches, beside their rows in `runs`. */
export class Batches {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  async insert(db: Sql, { id, endpoint, inputFileId, outputKeepSeconds }: NewBatch): Promise<void> {
    await db
      .insertInto('batches')
      .values({ id, endpoint, input_file_id: inputFileId, output_keep_seconds: outputKeepSeconds })
      .execute();
  }

  async find(id: string, visible: Visible | undefined): Promise<Batch | undefined> {
    return (await this.selected(visible).where('b.id', '=', id).execute()).map(toBatch)[0];
  }

  /** Newest first. */
  async list({ visible, limit, after }: BatchPage): Promise<readonly Batch[]> {
    const rows = await this.selected(visible)
      .$if(after !== undefined, (query) =>
        query.where(sql<boolean>`(r.created_at, r.id) < (SELECT c.created_at, c.id FROM runs c WHERE c.id = ${after})`),
      )
      .orderBy('r.created_at', 'desc')
      .orderBy('r.id', 'desc')
      .limit(limit)
      .execute();
    return rows.map(toBatch);
  }

  /** Writes a moment down, if it is not yet. */
  async mark(id: string, moment: BatchMoment): Promise<void> {
    await sql`UPDATE batches SET ${sql.ref(moment)} = coalesce(${sql.ref(moment)}, now()) WHERE id = ${id}`.execute(
      this.db,
    );
  }

  async setErrors(id: string, errors: readonly InputProblem[]): Promise<void> {
    await this.db
      .updateTable('batches')
      .set({ errors: JSON.stringify(errors) })
      .where('id', '=', id)
      .execute();
  }

  /** Names a file of a batch. Returns the name that it has, which stays. */
  async nameFile(id: string, column: 'output_file_id' | 'error_file_id'): Promise<string> {
    const { rows } = await sql<{ name: string }>`
      UPDATE batches SET ${sql.ref(column)} = coalesce(${sql.ref(column)}, ${newId('file')}) WHERE id = ${id}
      RETURNING ${sql.ref(column)} AS name`.execute(this.db);
    return rows[0]?.name ?? '';
  }

  /** Sums up what the calls of a batch used. */
  async sumUsage(id: string): Promise<void> {
    await sql`
      UPDATE batches SET usage = (
        SELECT jsonb_build_object('input', coalesce(sum(a.prompt_tokens), 0), 'cached', coalesce(sum(a.cached_tokens), 0),
          'output', coalesce(sum(a.completion_tokens), 0), 'reasoning', coalesce(sum(a.reasoning_tokens), 0))
        FROM llm_requests r JOIN attempts a ON a.request_id = r.id AND a.state = 'succeeded' WHERE r.run_id = ${id})
      WHERE id = ${id}`.execute(this.db);
  }

  private selected(visible: Visible | undefined) {
    return this.db
      .selectFrom('batches as b')
      .innerJoin('runs as r', 'r.id', 'b.id')
      .selectAll('b')
      .select(['r.owner', 'r.project', 'r.input_ref', 'r.metadata', 'r.deadline_at', 'r.max_cost_nanos', 'r.retry_of'])
      .select(['r.state', 'r.error_code', 'r.error_message', 'r.error_param', 'r.created_at', 'r.completed_at'])
      .where('r.kind', '=', 'batch')
      .$if(visible !== undefined, (query) => query.where('r.owner', '=', visible?.owner ?? ''))
      .$if(visible?.project !== undefined, (query) => query.where('r.project', '=', visible?.project ?? ''));
  }
}

type Row = Awaited<ReturnType<ReturnType<Batches['selected']>['execute']>>[number];

const toBatch = (row: Row): Batch => ({
  id: row.id,
  endpoint: row.endpoint,
  inputFileId: row.input_file_id,
  outputKeepSeconds: row.output_keep_seconds,
  owner: row.owner,
  project: row.project,
  inputRef: row.input_ref,
  metadata: row.metadata,
  deadlineAt: row.deadline_at,
  maxCostNanos: row.max_cost_nanos,
  retryOf: row.retry_of,
  state: row.state,
  error: toErrorInfo(row),
  total: row.total,
  completed: row.completed,
  failed: row.failed,
  costNanos: row.cost_nanos,
  usage: row.usage,
  errors: row.errors,
  outputFileId: row.output_file_id,
  errorFileId: row.error_file_id,
  createdAt: row.created_at,
  inProgressAt: row.in_progress_at,
  cancellingAt: row.cancelling_at,
  finalizingAt: row.finalizing_at,
  expiredAt: row.expired_at,
  completedAt: row.completed_at,
});
