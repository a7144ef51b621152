import { type Selectable, sql } from 'kysely';
import { HoldfastError } from '../../domain/errors.ts';
import type { FilePurpose } from '../../domain/files.ts';
import { newId } from '../../domain/ids.ts';
import { inChunks } from '../chunks.ts';
import type { Cipher } from '../cipher.ts';
import { FIRST_LINE, type Line, type LinePosition, readLines } from '../lines.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';
import type { FilesTable } from './tables/batches.ts';

export interface FileOwner {
  readonly owner: string;
  readonly project: string | null;
}

/** What is said of a file when it is finished. */
export interface FileDescription {
  readonly filename: string;
  readonly purpose: FilePurpose;
  /** Seconds from then on until it expires; null never. */
  readonly keepSeconds: number | null;
}

export interface StoredFile extends FileOwner {
  readonly id: string;
  readonly filename: string;
  readonly purpose: FilePurpose;
  readonly bytes: number;
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
}

export interface FileFilter {
  readonly visible: Visible | undefined;
  readonly purpose?: FilePurpose | undefined;
  readonly order: 'asc' | 'desc';
  readonly limit: number;
  /** Those behind the file of this id, which need not be there any more. */
  readonly after?: string | undefined;
}

export interface NewUpload {
  readonly maxBytes: number;
  /** Asked once the content is read: a form may say what a file is for behind the file. */
  readonly describe: () => Promise<FileDescription>;
}

/** Rows removed by one statement, so that the others, which queue behind it in the embedded database, wait for little. */
const CHUNKS_PER_REMOVAL = 32;
/** Seconds without a further chunk after which an upload was left behind by a process that died. */
const UPLOAD_IDLE_SECONDS = 3_600;
/** The same for what runs write. A run may be paused for long. */
const OUTPUT_IDLE_SECONDS = 30 * 24 * 3_600;

/** The condition under which a file exists for everybody but those who write it. */
const present = sql<boolean>`finished AND (expires_at IS NULL OR expires_at > now())`;

/**
 * Files in sealed chunks, of which one at a time is in memory. They are written chunk by chunk, each its own statement,
 * and seen by nobody until they are finished. What is left behind unfinished expires like any other file.
 */
export class Files {
  private readonly db: Sql;
  private readonly cipher: Cipher;

  constructor(db: Sql, cipher: Cipher) {
    this.db = db;
    this.cipher = cipher;
  }

  /**
   * Stores an upload, or nothing if that fails. Throws `caller_body_too_large`, and whatever `content` and `describe`
   * throw.
   */
  async create(
    owner: FileOwner,
    content: AsyncIterable<Buffer>,
    { maxBytes, describe }: NewUpload,
  ): Promise<StoredFile> {
    const id = newId('file');
    await this.insert(id, owner, UPLOAD_IDLE_SECONDS);
    try {
      let n = 0;
      for await (const chunk of inChunks(content, maxBytes)) {
        await this.write(id, n, chunk, UPLOAD_IDLE_SECONDS);
        n += 1;
      }
      return await this.finish(id, await describe());
    } catch (error) {
      // Without a database the sweep does it.
      await this.discard(id).catch(() => {});
      throw error;
    }
  }

  /** Begins a file that is written in pieces. Repeating it with the same id does nothing. */
  async open(id: string, owner: FileOwner): Promise<void> {
    await this.insert(id, owner, OUTPUT_IDLE_SECONDS);
  }

  /**
   * Adds lines as piece `n`. A piece that is there stays as it is; the file has them in the order of `n`, whichever was
   * written first. Each is read and written as a whole, so that a megabyte or so is a good size.
   */
  async append(id: string, n: number, lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    await this.write(id, n, Buffer.from(`${lines.join('\n')}\n`), OUTPUT_IDLE_SECONDS);
  }

  /** Shows a file to those who may see it. A file that is finished stays as it is. */
  async finish(id: string, { filename, purpose, keepSeconds }: FileDescription): Promise<StoredFile> {
    const row = await this.db.transaction().execute(async (transaction) => {
      // Two statements: the second one sees every chunk that was written before the first one locked the row.
      await sql`
        UPDATE files SET finished = true, filename = ${filename}, purpose = ${purpose}, created_at = now(),
          expires_at = now() + ${keepSeconds}::float8 * interval '1 second'
        WHERE id = ${id} AND NOT finished AND expires_at > now()`.execute(transaction);
      const { rows } = await sql<Selectable<FilesTable>>`
        UPDATE files SET bytes = coalesce((SELECT sum(c.bytes) FROM file_chunks c WHERE c.file_id = ${id}), 0)
        WHERE id = ${id} AND finished RETURNING *`.execute(transaction);
      return rows[0];
    });
    if (!row) throw notOpen(id);
    return toFile(row);
  }

  /** Removes a file that will not be finished. */
  async discard(id: string): Promise<void> {
    const query = this.db.updateTable('files').set(REMOVED).where('id', '=', id).where('finished', '=', false);
    const { numUpdatedRows } = await query.executeTakeFirstOrThrow();
    if (numUpdatedRows > 0n) await this.purge(id);
  }

  /** A file, if it is `visible`; undefined sees all. */
  async get(id: string, visible: Visible | undefined): Promise<StoredFile | undefined> {
    const query = this.db.selectFrom('files').selectAll();
    const row = await query.where((eb) => eb.and([eb.and({ id, ...visible }), present])).executeTakeFirst();
    return row && toFile(row);
  }

  /** By id, which is by when they were begun. */
  async list({ visible, purpose, order, limit, after }: FileFilter): Promise<readonly StoredFile[]> {
    const rows = await this.db
      .selectFrom('files')
      .selectAll()
      .where((eb) => eb.and([eb.and({ ...visible, ...(purpose && { purpose }) }), present]))
      .$if(after !== undefined, (query) => query.where('id', order === 'asc' ? '>' : '<', after as string))
      .orderBy('id', order)
      .limit(limit)
      .execute();
    return rows.map(toFile);
  }

  /** Whether there was such a file. It is gone at once, however long its content takes. */
  async remove(id: string, visible: Visible | undefined): Promise<boolean> {
    const query = this.db.updateTable('files').set(REMOVED);
    const { numUpdatedRows } = await query
      .where((eb) => eb.and([eb.and({ id, ...visible }), present]))
      .executeTakeFirstOrThrow();
    if (numUpdatedRows === 0n) return false;
    await this.purge(id);
    return true;
  }

  /**
   * A finished file's bytes, from `fromByte` on, also of a file that has expired and is not removed yet. Throws
   * `caller_not_found`, also in the middle if it is removed meanwhile.
   */
  async *content(id: string, { fromByte = 0 }: { readonly fromByte?: number } = {}): AsyncGenerator<Buffer> {
    const chunks = await this.db
      .selectFrom('files as f')
      .leftJoin('file_chunks as c', 'c.file_id', 'f.id')
      .select(['c.n', 'c.bytes'])
      .where('f.id', '=', id)
      .where('f.finished', '=', true)
      .orderBy('c.n')
      .execute();
    if (chunks.length === 0) throw noContent(id);
    let start = 0;
    for (const { n, bytes } of chunks) {
      if (n === null || bytes === null) return;
      const end = start + bytes;
      if (end > fromByte) yield (await this.chunk(id, n)).subarray(Math.max(0, fromByte - start));
      start = end;
    }
  }

  /** A finished file's lines, from `from` on; see `readLines` and `content` for what it throws. */
  lines(id: string, maxLineBytes: number, from: LinePosition = FIRST_LINE): AsyncGenerator<Line> {
    return readLines(this.content(id, { fromByte: from.offset }), maxLineBytes, from);
  }

  /** Removes files that expired and those left unfinished, `limit` at most. Returns how many. */
  async removeExpired(limit: number): Promise<number> {
    const { rows } = await sql<{ id: string }>`
      -- As a subquery of the update it could be run again for each row, and take more.
      WITH due AS MATERIALIZED (
        SELECT id FROM files WHERE expires_at <= now() ORDER BY expires_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
      )
      UPDATE files SET finished = false, expires_at = ${REMOVED.expires_at} FROM due WHERE files.id = due.id
      RETURNING files.id`.execute(this.db);
    let removed = 0;
    for (const { id } of rows) if (await this.purge(id)) removed += 1;
    return removed;
  }

  private async insert(id: string, { owner, project }: FileOwner, idleSeconds: number): Promise<void> {
    await sql`
      INSERT INTO files (id, owner, project, expires_at)
      VALUES (${id}, ${owner}, ${project}, now() + ${idleSeconds} * interval '1 second')
      ON CONFLICT DO NOTHING`.execute(this.db);
  }

  private async write(id: string, n: number, content: Buffer, idleSeconds: number): Promise<void> {
    const sealed = this.cipher.encrypt(content);
    // Locks the row, so that no chunk gets into a file that is being finished or removed.
    const { numAffectedRows } = await sql`
      WITH open AS (
        UPDATE files SET expires_at = now() + ${idleSeconds} * interval '1 second'
        WHERE id = ${id} AND NOT finished AND expires_at > now() RETURNING id
      )
      INSERT INTO file_chunks (file_id, n, bytes, content)
      SELECT id, ${n}::integer, ${content.length}::integer, ${sealed}::bytea FROM open
      ON CONFLICT DO NOTHING`.execute(this.db);
    if (numAffectedRows === 1n) return;
    const written = this.db.selectFrom('file_chunks').select('n').where('file_id', '=', id).where('n', '=', n);
    if (!(await written.executeTakeFirst())) throw notOpen(id);
  }

  private async chunk(id: string, n: number): Promise<Buffer> {
    const query = this.db.selectFrom('file_chunks').select('content').where('file_id', '=', id).where('n', '=', n);
    const row = await query.executeTakeFirst();
    if (!row) throw noContent(id);
    return this.cipher.decrypt(row.content);
  }

  /** Whether there was anything left of it. */
  private async purge(id: string): Promise<boolean> {
    let removed: bigint;
    do {
      const { numAffectedRows = 0n } = await sql`
        DELETE FROM file_chunks WHERE file_id = ${id} AND n IN (
          SELECT n FROM file_chunks WHERE file_id = ${id} ORDER BY n LIMIT ${CHUNKS_PER_REMOVAL})`.execute(this.db);
      removed = numAffectedRows;
    } while (removed > 0n);
    const { numDeletedRows } = await this.db.deleteFrom('files').where('id', '=', id).executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  }
}

/** Takes no further chunk, is seen by nobody, and is the sweep's if whoever removes it dies. */
const REMOVED = { finished: false, expires_at: new Date(0) };

const notOpen = (id: string) => new HoldfastError('gateway_internal', `File '${id}' is not open for writing.`);
const noContent = (id: string) => new HoldfastError('caller_not_found', `There is no file '${id}'.`);

const toFile = (row: Selectable<FilesTable>): StoredFile => ({
  id: row.id,
  owner: row.owner,
  project: row.project,
  filename: row.filename,
  purpose: row.purpose,
  bytes: row.bytes,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
});
