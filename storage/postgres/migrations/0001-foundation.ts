import { type Kysely, sql } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE virtual_keys (
      id text PRIMARY KEY,
      name text NOT NULL,
      key_hash bytea NOT NULL UNIQUE,
      key_prefix text NOT NULL,
      requests_per_minute integer,
      tokens_per_minute integer,
      cost_cap_nanos bigint,
      default_model text,
      allowed_models text[],
      team text,
      project text,
      user_id text,
      is_active boolean NOT NULL DEFAULT true,
      expires_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);

  await sql`
    CREATE TABLE bodies (
      ref text PRIMARY KEY,
      content bytea NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);

  await sql`
    CREATE TABLE llm_requests (
      id text PRIMARY KEY,
      run_id text NOT NULL,
      virtual_key_id text,
      team text,
      project text,
      user_id text,
      request_id text NOT NULL,
      owner text NOT NULL,
      surface text NOT NULL,
      prompt text NOT NULL,
      body_ref text NOT NULL,
      template_id text,
      model_requested text NOT NULL,
      model_used text,
      provider_used text,
      parameters jsonb NOT NULL,
      timestamp timestamptz NOT NULL DEFAULT now(),
      state text NOT NULL,
      status text,
      latency_ms integer,
      cost_nanos bigint NOT NULL DEFAULT 0,
      cost_usd numeric(20, 9) GENERATED ALWAYS AS (cost_nanos::numeric / 1000000000) STORED,
      prompt_tokens integer,
      completion_tokens integer,
      total_tokens integer,
      error_code text,
      error_message text,
      error_param text,
      completed_at timestamptz,
      UNIQUE (owner, request_id)
    )`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_timestamp ON llm_requests (timestamp, id)`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_virtual_key ON llm_requests (virtual_key_id, timestamp)`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_run ON llm_requests (run_id)`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_team ON llm_requests (team, timestamp)`.execute(db);

  await sql`
    CREATE TABLE attempts (
      request_id text NOT NULL,
      target_index integer NOT NULL,
      n integer NOT NULL,
      provider text NOT NULL,
      model text NOT NULL,
      state text NOT NULL,
      owner text NOT NULL,
      max_cost_nanos bigint NOT NULL,
      cost_nanos bigint NOT NULL DEFAULT 0,
      prompt_tokens integer,
      cached_tokens integer,
      cache_write_tokens integer,
      completion_tokens integer,
      reasoning_tokens integer,
      usage_estimated boolean NOT NULL DEFAULT false,
      latency_ms integer,
      error_code text,
      error_message text,
      error_param text,
      retry_after_ms integer,
      provider_status integer,
      response_ref text,
      started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      finished_at timestamptz,
      PRIMARY KEY (request_id, target_index, n)
    )`.execute(db);

  await sql`CREATE TABLE processes (id text PRIMARY KEY, lease_expires_at timestamptz NOT NULL)`.execute(db);

  await sql`
    CREATE TABLE spend_counters (
      scope_type text NOT NULL,
      scope_id text NOT NULL,
      period_start date NOT NULL,
      spent_nanos bigint NOT NULL DEFAULT 0,
      reserved_nanos bigint NOT NULL DEFAULT 0 CHECK (reserved_nanos >= 0),
      PRIMARY KEY (scope_type, scope_id, period_start)
    )`.execute(db);

  await sql`
    CREATE TABLE reservations (
      request_id text NOT NULL,
      scope_type text NOT NULL,
      scope_id text NOT NULL,
      period_start date NOT NULL,
      reserved_nanos bigint NOT NULL,
      settled_nanos bigint,
      price_version text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      settled_at timestamptz,
      PRIMARY KEY (request_id, scope_type, scope_id)
    )`.execute(db);
}
