import { type Kysely, sql } from 'kysely';

/** Batches, beside their rows in `runs`, and their lines. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE batches (
      id text PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
      endpoint text NOT NULL,
      input_file_id text NOT NULL,
      output_keep_seconds integer,
      total integer NOT NULL DEFAULT 0,
      completed integer NOT NULL DEFAULT 0,
      failed integer NOT NULL DEFAULT 0,
      cost_nanos bigint NOT NULL DEFAULT 0,
      usage jsonb,
      errors jsonb NOT NULL DEFAULT '[]',
      output_file_id text,
      error_file_id text,
      in_progress_at timestamptz,
      cancelling_at timestamptz,
      finalizing_at timestamptz,
      expired_at timestamptz
    )`.execute(db);

  await sql`
    CREATE TABLE batch_lines (
      batch_id text NOT NULL,
      n integer NOT NULL,
      byte_offset bigint NOT NULL,
      custom_id text,
      state text NOT NULL,
      answered_by text,
      problem jsonb,
      error jsonb,
      PRIMARY KEY (batch_id, n)
    )`.execute(db);
  await sql`CREATE INDEX idx_batch_lines_open ON batch_lines (batch_id, n) WHERE state = 'open'`.execute(db);
  await sql`CREATE INDEX idx_runs_kind ON runs (kind, owner, created_at, id)`.execute(db);

  await sql`
    CREATE TABLE provider_batches (
      id text PRIMARY KEY,
      batch_id text NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
      provider text NOT NULL,
      model text NOT NULL,
      provider_key_id text,
      price jsonb,
      provider_batch_id text,
      state text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_provider_batches_batch ON provider_batches (batch_id)`.execute(db);
}
