import { statSync } from 'node:fs';
import { sql } from 'kysely';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import type { Side } from './sides.ts';

/** Bytes on disk. */
export interface Stored {
  readonly database: number;
  /** What Postgres wrote ahead of its tables, of all databases. */
  readonly writtenAhead: number;
  readonly files: number;
}

/** What sides keep, as Postgres and the file system say. */
export class Storage {
  private readonly db: Sql;

  constructor(server: string) {
    this.db = connectDatabase({ url: `${server}/postgres`, maxConnections: 1, onError: () => {} });
  }

  async of({ database, files }: Side): Promise<Stored> {
    const { rows } = await sql<Omit<Stored, 'files'>>`
      SELECT pg_database_size(${database}::name) AS database,
             pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS "writtenAhead"`.execute(this.db);
    const [{ database: size, writtenAhead } = { database: 0, writtenAhead: 0 }] = rows;
    return { database: size, writtenAhead, files: files.reduce((sum, file) => sum + sizeOf(file), 0) };
  }

  close(): Promise<void> {
    return this.db.destroy();
  }
}

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
