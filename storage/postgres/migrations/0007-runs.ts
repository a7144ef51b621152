import { type Kysely, sql } from 'kysely';

/** Runs in the background with what they showed, stored responses, idempotency keys and shared calls. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE runs (
      id text PRIMARY KEY,
      kind text NOT NULL,
      owner text NOT NULL,
      virtual_key_id text,
      team text,
      project text,
      user_id text,
      model text,
      state text NOT NULL,
      state_seq integer NOT NULL DEFAULT 0,
      priority smallint NOT NULL,
      input_ref text NOT NULL,
      metadata jsonb NOT NULL,
      deadline_at timestamptz NOT NULL,
      max_cost_nanos bigint,
      webhook bytea,
      retry_of text,
      rerun_of text,
      error_code text,
      error_message text,
      error_param text,
      created_at timestamptz NOT NULL DEFAULT now(),
      started_at timestamptz,
      completed_at timestamptz
    )`.execute(db);
  await sql`CREATE INDEX idx_runs_owner ON runs (owner, created_at, id)`.execute(db);
  await sql`CREATE INDEX idx_runs_created ON runs (created_at, id)`.execute(db);
  await sql`CREATE INDEX idx_runs_completed ON runs (completed_at)`.execute(db);
  await sql`CREATE INDEX idx_runs_open ON runs (id) WHERE completed_at IS NULL`.execute(db);

  await sql`
    CREATE TABLE run_events (
      run_id text NOT NULL,
      seq integer NOT NULL,
      count integer NOT NULL,
      epoch integer NOT NULL,
      content bytea NOT NULL,
      PRIMARY KEY (run_id, seq)
    )`.execute(db);

  await sql`
    CREATE TABLE responses (
      id text PRIMARY KEY,
      owner text NOT NULL,
      project text,
      background boolean NOT NULL,
      previous_response_id text,
      input_ref text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_responses_created ON responses (created_at)`.execute(db);

  await sql`
    CREATE TABLE idempotency_keys (
      owner text NOT NULL,
      endpoint text NOT NULL,
      key text NOT NULL,
      body_hash text NOT NULL,
      run_id text NOT NULL,
      expires_at timestamptz NOT NULL,
      PRIMARY KEY (owner, endpoint, key)
    )`.execute(db);
  await sql`CREATE INDEX idx_idempotency_keys_expires ON idempotency_keys (expires_at)`.execute(db);

  await sql`
    ALTER TABLE llm_requests
      ADD COLUMN shared_key text,
      ADD COLUMN callers integer NOT NULL DEFAULT 1`.execute(db);
  await sql`
    CREATE UNIQUE INDEX llm_requests_shared_key ON llm_requests (owner, shared_key)
    WHERE shared_key IS NOT NULL AND completed_at IS NULL AND callers > 0`.execute(db);
  await sql`CREATE INDEX idx_bodies_created ON bodies (created_at)`.execute(db);
}
