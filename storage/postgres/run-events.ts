import { type RawBuilder, sql } from 'kysely';
import type { StreamItem } from '../../domain/stream-item.ts';
import type { Cipher } from '../cipher.ts';
import type { StreamEntry } from '../streams/stream-log.ts';
import { isUniqueViolation, type Sql } from './database.ts';

/** Batches of entries read at once. */
const PAGE = 500;

/** What runs in the background showed, in order, for readers of any time. Encrypted at rest. */
export class RunEvents {
  private readonly db: Sql;
  private readonly cipher: Cipher;

  constructor(db: Sql, cipher: Cipher) {
    this.db = db;
    this.cipher = cipher;
  }

  /** Appends in order; false when a writer of a later epoch was here, or the run ended or is gone: nothing was appended. */
  async append(runId: string, epoch: number, items: readonly StreamItem[]): Promise<boolean> {
    const content = this.seal(items);
    for (;;) {
      try {
        const { numAffectedRows } = await sql`
          INSERT INTO run_events (run_id, seq, count, epoch, content)
          SELECT ${runId}, last.seq + last.count, ${items.length}::integer, ${epoch}::integer, ${content}
          FROM (SELECT * FROM run_events WHERE run_id = ${runId} ORDER BY seq DESC LIMIT 1) last
          WHERE last.epoch <= ${epoch}`.execute(this.db);
        return numAffectedRows === 1n;
      } catch (error) {
        if (!isUniqueViolation(error, 'run_events_pkey')) throw error;
      }
    }
  }

  /**
   * Changes something and appends what tells of it, both or neither.
   * @param change Returns a row where something changed. `last.next` is the number of the event.
   * @param epoch From then on nothing of a lower one is appended. @default that of the last event
   */
  async tell<Row>(
    runId: string,
    item: StreamItem,
    change: RawBuilder<Row>,
    epoch: RawBuilder<unknown> = sql`last.epoch`,
  ): Promise<Row | undefined> {
    const content = this.seal([item]);
    for (;;) {
      try {
        const { rows } = await sql<Row>`
          WITH last AS (
            -- Always a row: a run whose events were removed goes on as well.
            SELECT coalesce(max(seq + count), 0) AS next, coalesce(max(epoch), 0) AS epoch
            FROM (SELECT * FROM run_events WHERE run_id = ${runId} ORDER BY seq DESC LIMIT 1) e
          ), changed AS (${change}), event AS (
            INSERT INTO run_events (run_id, seq, count, epoch, content)
            SELECT ${runId}, last.next, 1, ${epoch}, ${content} FROM changed, last
          )
          SELECT * FROM changed`.execute(this.db);
        return rows[0];
      } catch (error) {
        if (!isUniqueViolation(error, 'run_events_pkey')) throw error;
      }
    }
  }

  seal(items: readonly StreamItem[]): Buffer {
    return this.cipher.encrypt(Buffer.from(JSON.stringify(items)));
  }

  /** Entries from `from` on; not necessarily all that there are, but some if there are any. */
  async read(runId: string, from: number): Promise<readonly StreamEntry[]> {
    const rows = await this.db
      .selectFrom('run_events')
      .select(['seq', 'content'])
      .where('run_id', '=', runId)
      // Where to begin is looked up: to pass by all that a reader has seen already would take longer with each read.
      .where(sql<boolean>`seq >= coalesce(
        (SELECT max(seq) FROM run_events WHERE run_id = ${runId} AND seq <= ${from}), 0)`)
      .where(sql<boolean>`seq + count > ${from}`)
      .orderBy('seq')
      .limit(PAGE)
      .execute();
    const entries: StreamEntry[] = [];
    for (const { seq, content } of rows) {
      const plain = await this.cipher.decrypt(content);
      const items = JSON.parse(plain.toString()) as StreamItem[];
      items.forEach((item, offset) => {
        if (seq + offset >= from) entries.push({ seq: seq + offset, item });
      });
    }
    return entries;
  }

  /** Entries so far. */
  async length(runId: string): Promise<number> {
    const last = await this.db
      .selectFrom('run_events')
      .select(['seq', 'count'])
      .where('run_id', '=', runId)
      .orderBy('seq', 'desc')
      .limit(1)
      .executeTakeFirst();
    return last ? last.seq + last.count : 0;
  }
}
