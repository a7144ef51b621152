import { sql } from 'kysely';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';

export interface NewResponse {
  readonly id: string;
  readonly owner: string;
  readonly project: string | null;
  readonly background: boolean;
  readonly previousResponseId: string | null;
  /** Of a body that is stored with the request. */
  readonly inputRef: string;
  readonly createdAt: Date;
}

export interface StoredResponse {
  readonly id: string;
  readonly background: boolean;
  readonly inputRef: string;
  readonly createdAt: Date;
}

/** A turn of a conversation. */
export interface ResponseTurn {
  readonly id: string;
  readonly inputRef: string;
  /** null while there is no answer. */
  readonly responseRef: string | null;
}

/** Turns that a conversation can be built on at most. */
const MAX_TURNS = 10_000;

/** Responses that can be fetched, gone on with and removed. */
export class Responses {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  async insert(db: Sql, response: NewResponse): Promise<void> {
    await db
      .insertInto('responses')
      .values({
        id: response.id,
        owner: response.owner,
        project: response.project,
        background: response.background,
        previous_response_id: response.previousResponseId,
        input_ref: response.inputRef,
        created_at: response.createdAt,
      })
      .execute();
  }

  async find(id: string, visible: Visible | undefined): Promise<StoredResponse | undefined> {
    const row = await this.db
      .selectFrom('responses')
      .select(['id', 'background', 'input_ref', 'created_at'])
      .where((eb) => eb.and({ id, ...visible }))
      .executeTakeFirst();
    return row && { id: row.id, background: row.background, inputRef: row.input_ref, createdAt: row.created_at };
  }

  /** The conversation that ends with a response, oldest turn first; undefined if that or one before it is not there. */
  async conversation(id: string, visible: Visible | undefined): Promise<readonly ResponseTurn[] | undefined> {
    const { rows } = await sql<ResponseTurn & { previous: string | null }>`
      WITH RECURSIVE turn AS (
        SELECT r.*, 1 AS depth FROM responses r WHERE r.id = ${id}
        UNION ALL
        SELECT r.*, turn.depth + 1 FROM turn JOIN responses r ON r.id = turn.previous_response_id
        WHERE turn.depth < ${MAX_TURNS}
      )
      SELECT id, input_ref AS "inputRef", previous_response_id AS previous,
        (SELECT a.response_ref FROM attempts a WHERE a.request_id = turn.id AND a.state = 'succeeded' LIMIT 1)
          AS "responseRef"
      FROM turn
      WHERE ${visible ? sql`owner = ${visible.owner}` : sql`true`}
        AND ${visible?.project !== undefined ? sql`project = ${visible.project}` : sql`true`}
      ORDER BY depth DESC`.execute(this.db);
    const [oldest] = rows;
    return !oldest || oldest.previous !== null || rows.at(-1)?.id !== id ? undefined : rows;
  }

  /** Removes a response with what it showed. */
  async remove(id: string): Promise<void> {
    await this.db.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('responses').where('id', '=', id).execute();
      await transaction.deleteFrom('run_events').where('run_id', '=', id).execute();
    });
  }
}
