import { sql } from 'kysely';
import type { InputProblem, LineEnd, LineState } from '../../domain/batch.ts';
import type { ErrorInfo } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Sql } from './database.ts';

/** A line of a batch's input as it was read. */
export interface NewLine {
  readonly n: number;
  /** In bytes from the file's start. */
  readonly offset: number;
  readonly customId: string | null;
  /** Why it cannot be called. */
  readonly problem: InputProblem | null;
}

export interface StoredLine extends NewLine {
  readonly state: LineState;
  /** The request that has its answer or failed for it. */
  readonly requestId: string;
  readonly error: ErrorInfo | null;
}

/** Which lines of a batch, in the order of the input. */
export interface LineRange {
  /** Those behind this line. */
  readonly after: number;
  readonly limit: number;
}

/** The lines of batches. */
export class BatchLines {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Adds lines; those that are there stay as they are. */
  async add(batchId: string, lines: readonly NewLine[]): Promise<void> {
    const rows = lines.map(({ n, offset, customId, problem }) => ({
      n,
      byte_offset: offset,
      custom_id: customId,
      problem,
    }));
    await sql`
      INSERT INTO batch_lines (batch_id, n, byte_offset, custom_id, state, problem)
      SELECT ${batchId}, l.n, l.byte_offset, l.custom_id, CASE WHEN l.problem IS NULL THEN 'open' ELSE 'failed' END,
             l.problem
      FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
        AS l (n integer, byte_offset bigint, custom_id text, problem jsonb)
      ON CONFLICT DO NOTHING`.execute(this.db);
  }

  /**
   * Takes the lines of an earlier batch over: those that were answered with their answers, as long as these are kept, the
   * others as if nobody had tried them.
   */
  async takeOver(batchId: string, earlier: string): Promise<void> {
    await sql`
      INSERT INTO batch_lines (batch_id, n, byte_offset, custom_id, state, answered_by, problem)
      SELECT ${batchId}, l.n, l.byte_offset, l.custom_id,
        CASE WHEN l.problem IS NOT NULL THEN 'failed' WHEN answer.request_id IS NULL THEN 'open' ELSE 'completed' END,
        answer.request_id, l.problem
      FROM batch_lines l
      LEFT JOIN LATERAL (
        SELECT a.request_id FROM attempts a JOIN bodies ON bodies.ref = a.response_ref
        WHERE a.request_id = ${requestIdOf} AND a.state = 'succeeded' AND l.state = 'completed' LIMIT 1
      ) answer ON true
      WHERE l.batch_id = ${earlier}
      ON CONFLICT DO NOTHING`.execute(this.db);
  }

  /** Sets a batch's counts to what its lines say. Returns how many there are, and how many can be called at all. */
  async count(batchId: string): Promise<{ readonly total: number; readonly callable: number }> {
    const { rows } = await sql<{ total: number; callable: number }>`
      WITH counts AS (
        SELECT count(*) AS total, count(*) FILTER (WHERE problem IS NULL) AS callable,
          count(*) FILTER (WHERE state = 'completed') AS completed,
          count(*) FILTER (WHERE state NOT IN ('open', 'completed')) AS failed
        FROM batch_lines WHERE batch_id = ${batchId}
      ), counted AS (
        UPDATE batches b SET total = c.total, completed = c.completed, failed = c.failed FROM counts c WHERE b.id = ${batchId}
      )
      SELECT total, callable FROM counts`.execute(this.db);
    return rows[0] as { total: number; callable: number };
  }

  /** Ends lines that are open, and counts them. Returns what all ended lines of the batch cost. */
  async finish(batchId: string, ends: readonly LineEnd[]): Promise<NanoDollars> {
    const { rows } = await sql<{ cost: number }>`
      WITH ended AS (
        UPDATE batch_lines l SET state = e.state, error = e.error
        FROM jsonb_to_recordset(${JSON.stringify(ends)}::jsonb) AS e (n integer, state text, error jsonb)
        WHERE l.batch_id = ${batchId} AND l.n = e.n AND l.state = 'open'
        RETURNING l.n, l.state
      ), cost AS (
        SELECT coalesce(sum(r.cost_nanos), 0)::bigint AS nanos
        FROM ended e JOIN llm_requests r ON r.id = ${batchId} || '-' || e.n
      )
      UPDATE batches b SET
        completed = b.completed + (SELECT count(*) FROM ended WHERE state = 'completed'),
        failed = b.failed + (SELECT count(*) FROM ended WHERE state <> 'completed'),
        cost_nanos = b.cost_nanos + cost.nanos
      FROM cost WHERE b.id = ${batchId} RETURNING b.cost_nanos AS cost`.execute(this.db);
    return rows[0]?.cost ?? 0;
  }

  /** Lines that have no end yet. */
  async open(batchId: string, { after, limit }: LineRange): Promise<readonly NewLine[]> {
    const rows = await this.db
      .selectFrom('batch_lines')
      .select(['n', 'byte_offset', 'custom_id', 'problem'])
      .where('batch_id', '=', batchId)
      .where('state', '=', 'open')
      .where('n', '>', after)
      .orderBy('n')
      .limit(limit)
      .execute();
    return rows.map((row) => ({ n: row.n, offset: row.byte_offset, customId: row.custom_id, problem: row.problem }));
  }

  /** Of these, the ones that nobody has called yet. */
  async untried(batchId: string, { after, limit }: LineRange): Promise<readonly NewLine[]> {
    const { rows } = await sql<NewLine>`
      SELECT l.n, l.byte_offset AS offset, l.custom_id AS "customId", l.problem FROM batch_lines l
      WHERE l.batch_id = ${batchId} AND l.state = 'open' AND l.n > ${after}
        AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = l.batch_id || '-' || l.n)
      ORDER BY l.n LIMIT ${limit}`.execute(this.db);
    return rows;
  }

  /** Forgets the lines of a batch whose input is no good. */
  async clear(batchId: string): Promise<void> {
    await this.db.deleteFrom('batch_lines').where('batch_id', '=', batchId).execute();
  }

  /** Ends all lines that have no end yet. */
  async close(batchId: string, state: 'cancelled' | 'expired'): Promise<void> {
    await sql`
      WITH ended AS (
        UPDATE batch_lines SET state = ${state} WHERE batch_id = ${batchId} AND state = 'open' RETURNING n
      )
      UPDATE batches SET failed = failed + (SELECT count(*) FROM ended) WHERE id = ${batchId}`.execute(this.db);
  }

  async read(batchId: string, { after, limit }: LineRange): Promise<readonly StoredLine[]> {
    const { rows } = await sql<StoredLine>`
      SELECT l.n, l.byte_offset AS offset, l.custom_id AS "customId", l.problem, l.state, l.error,
             ${requestIdOf} AS "requestId"
      FROM batch_lines l WHERE l.batch_id = ${batchId} AND l.n > ${after} ORDER BY l.n LIMIT ${limit}`.execute(this.db);
    return rows;
  }

  /** Requests of a batch that are not settled. */
  async unsettled(batchId: string, limit: number): Promise<readonly string[]> {
    const query = this.db.selectFrom('llm_requests').select('id').where('run_id', '=', batchId);
    const rows = await query.where('completed_at', 'is', null).limit(limit).execute();
    return rows.map(({ id }) => id);
  }
}

const requestIdOf = sql<string>`coalesce(l.answered_by, l.batch_id || '-' || l.n)`;
