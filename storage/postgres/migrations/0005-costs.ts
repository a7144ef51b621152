import { type Kysely, sql } from 'kysely';

/** More kinds of usage, what the prompt cache saved, stored models and routing, and cost reports. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE attempts
      ADD COLUMN audio_input_tokens integer,
      ADD COLUMN audio_output_tokens integer,
      ADD COLUMN input_images integer,
      ADD COLUMN cache_savings_nanos bigint NOT NULL DEFAULT 0`.execute(db);
  // For the average output of a model.
  await sql`CREATE INDEX idx_attempts_model ON attempts (provider, model, started_at)`.execute(db);

  await sql`
    CREATE TABLE models (
      id text PRIMARY KEY,
      entry jsonb NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`
    CREATE TABLE routing_overlay (
      single boolean PRIMARY KEY DEFAULT true CHECK (single),
      version bigint NOT NULL DEFAULT 0,
      policy jsonb
    )`.execute(db);
  await sql`INSERT INTO routing_overlay DEFAULT VALUES`.execute(db);

  await sql`
    CREATE TABLE cost_reports (
      id text PRIMARY KEY,
      period text NOT NULL,
      since timestamptz NOT NULL,
      until timestamptz NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      data jsonb NOT NULL,
      UNIQUE (period, since)
    )`.execute(db);
}
