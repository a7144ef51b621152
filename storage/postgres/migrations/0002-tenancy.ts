import { type Kysely, sql } from 'kysely';

/**
 * Organisations, teams, projects and users; budgets and rate limits for any of them. What a key had in columns of its
 * own (cost cap, limits) becomes a budget and a rate limit of the scope `key`.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE organisations (
      id text PRIMARY KEY,
      name text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`
    CREATE TABLE teams (
      id text PRIMARY KEY,
      name text NOT NULL,
      organisation text REFERENCES organisations,
      markup_percent numeric(8, 3) NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_teams_organisation ON teams (organisation)`.execute(db);
  await sql`
    CREATE TABLE projects (
      id text PRIMARY KEY,
      name text NOT NULL,
      team text REFERENCES teams,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_projects_team ON projects (team)`.execute(db);
  await sql`
    CREATE TABLE users (
      id text PRIMARY KEY,
      name text NOT NULL,
      email text UNIQUE,
      team text REFERENCES teams,
      roles text[] NOT NULL DEFAULT '{}',
      is_active boolean NOT NULL DEFAULT true,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_users_team ON users (team)`.execute(db);

  await sql`
    CREATE TABLE budgets (
      id text PRIMARY KEY,
      scope_type text NOT NULL,
      scope_id text NOT NULL,
      period text NOT NULL,
      kind text NOT NULL,
      limit_nanos bigint NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      UNIQUE (scope_type, scope_id, period, kind)
    )`.execute(db);
  await sql`
    INSERT INTO budgets (id, scope_type, scope_id, period, kind, limit_nanos)
    SELECT 'bud-' || id, 'key', id, 'monthly', 'hard', cost_cap_nanos
    FROM virtual_keys WHERE cost_cap_nanos IS NOT NULL`.execute(db);

  await sql`
    CREATE TABLE rate_limits (
      scope_type text NOT NULL,
      scope_id text NOT NULL,
      requests_per_minute integer,
      tokens_per_minute integer,
      concurrent_requests integer,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (scope_type, scope_id)
    )`.execute(db);
  await sql`
    INSERT INTO rate_limits (scope_type, scope_id, requests_per_minute, tokens_per_minute)
    SELECT 'key', id, requests_per_minute, tokens_per_minute
    FROM virtual_keys WHERE requests_per_minute IS NOT NULL OR tokens_per_minute IS NOT NULL`.execute(db);

  await sql`
    ALTER TABLE virtual_keys
      ADD COLUMN kind text NOT NULL DEFAULT 'user',
      ADD COLUMN roles text[] NOT NULL DEFAULT '{developer}',
      ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
      ADD COLUMN privacy_zone text,
      DROP COLUMN cost_cap_nanos,
      DROP COLUMN requests_per_minute,
      DROP COLUMN tokens_per_minute`.execute(db);
  // Teams, projects and users that keys named before there were any.
  await sql`
    INSERT INTO teams (id, name) SELECT DISTINCT team, team FROM virtual_keys WHERE team IS NOT NULL`.execute(db);
  await sql`
    INSERT INTO projects (id, name, team)
    SELECT DISTINCT ON (project) project, project, team FROM virtual_keys WHERE project IS NOT NULL`.execute(db);
  await sql`
    INSERT INTO users (id, name, team)
    SELECT DISTINCT ON (user_id) user_id, user_id, team FROM virtual_keys WHERE user_id IS NOT NULL`.execute(db);
  await sql`
    ALTER TABLE virtual_keys
      ADD FOREIGN KEY (team) REFERENCES teams,
      ADD FOREIGN KEY (project) REFERENCES projects,
      ADD FOREIGN KEY (user_id) REFERENCES users`.execute(db);

  await sql`
    ALTER TABLE llm_requests
      ADD COLUMN organisation text,
      ADD COLUMN feature text,
      ADD COLUMN markup_percent numeric(8, 3) NOT NULL DEFAULT 0`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_organisation ON llm_requests (organisation, timestamp)`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_project ON llm_requests (project, timestamp)`.execute(db);
  await sql`CREATE INDEX idx_llm_requests_user ON llm_requests (user_id, timestamp)`.execute(db);
  await sql`
    CREATE INDEX idx_llm_requests_open ON llm_requests (timestamp) WHERE completed_at IS NULL`.execute(db);

  await sql`
    ALTER TABLE spend_counters
      ADD COLUMN period text NOT NULL DEFAULT 'monthly',
      ADD COLUMN checked_at timestamptz,
      DROP CONSTRAINT spend_counters_pkey,
      ADD PRIMARY KEY (scope_type, scope_id, period, period_start)`.execute(db);
  await sql`ALTER TABLE spend_counters ALTER COLUMN period DROP DEFAULT`.execute(db);
  await sql`
    ALTER TABLE reservations
      ADD COLUMN period text NOT NULL DEFAULT 'monthly',
      DROP CONSTRAINT reservations_pkey,
      ADD PRIMARY KEY (request_id, scope_type, scope_id, period)`.execute(db);
  await sql`ALTER TABLE reservations ALTER COLUMN period DROP DEFAULT`.execute(db);
  await sql`
    CREATE INDEX idx_reservations_open ON reservations (scope_type, scope_id, period, period_start)
    WHERE settled_at IS NULL`.execute(db);
  await sql`CREATE INDEX idx_reservations_settled ON reservations (settled_at)`.execute(db);

  // One row for each warning of a budget, so that each is given once.
  await sql`
    CREATE TABLE budget_alerts (
      id text PRIMARY KEY,
      budget_id text NOT NULL REFERENCES budgets ON DELETE CASCADE,
      period_start date NOT NULL,
      threshold integer NOT NULL,
      request_id text NOT NULL,
      spent_nanos bigint NOT NULL,
      limit_nanos bigint NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      UNIQUE (budget_id, period_start, threshold)
    )`.execute(db);
  await sql`CREATE INDEX idx_budget_alerts_request ON budget_alerts (request_id)`.execute(db);
}
