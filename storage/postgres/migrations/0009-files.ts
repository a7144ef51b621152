import { type Kysely, sql } from 'kysely';

/** Files that callers upload and that batches write. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE files (
      id text PRIMARY KEY,
      owner text NOT NULL,
      project text,
      filename text NOT NULL DEFAULT '',
      purpose text NOT NULL DEFAULT '',
      bytes bigint NOT NULL DEFAULT 0,
      finished boolean NOT NULL DEFAULT false,
      created_at timestamptz NOT NULL DEFAULT now(),
      expires_at timestamptz
    )`.execute(db);
  await sql`CREATE INDEX idx_files_owner ON files (owner, id)`.execute(db);
  await sql`CREATE INDEX idx_files_expires_at ON files (expires_at) WHERE expires_at IS NOT NULL`.execute(db);

  await sql`
    CREATE TABLE file_chunks (
      file_id text NOT NULL REFERENCES files (id) ON DELETE CASCADE,
      n integer NOT NULL,
      bytes integer NOT NULL,
      content bytea NOT NULL,
      PRIMARY KEY (file_id, n)
    )`.execute(db);
  // What is encrypted does not compress.
  await sql`ALTER TABLE file_chunks ALTER COLUMN content SET STORAGE EXTERNAL`.execute(db);
}
