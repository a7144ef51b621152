import { type Kysely, sql } from 'kysely';

/** Agents, the steps of pipelines, approvals, and messages between agents. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE agents (
      id text PRIMARY KEY,
      owner text NOT NULL,
      project text,
      name text NOT NULL,
      kind text NOT NULL,
      description text NOT NULL,
      capabilities text[] NOT NULL,
      definition bytea NOT NULL,
      heartbeat_seconds integer,
      heartbeat_at timestamptz,
      load integer NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      UNIQUE (owner, name)
    )`.execute(db);
  await sql`CREATE INDEX idx_agents_created ON agents (created_at, id)`.execute(db);

  await sql`ALTER TABLE runs ADD COLUMN max_steps integer, ADD COLUMN max_duration_ms bigint`.execute(db);

  await sql`
    CREATE TABLE run_steps (
      run_id text NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      name text NOT NULL,
      parent text,
      pattern text NOT NULL,
      agent_id text,
      agent text,
      state text NOT NULL,
      input_ref text,
      output_ref text,
      error_code text,
      error_message text,
      error_param text,
      kept boolean NOT NULL DEFAULT false,
      started_at timestamptz NOT NULL DEFAULT now(),
      completed_at timestamptz,
      PRIMARY KEY (run_id, name)
    )`.execute(db);
  await sql`CREATE INDEX idx_run_steps_agent ON run_steps (agent_id) WHERE state = 'running'`.execute(db);

  await sql`
    CREATE TABLE approvals (
      id text PRIMARY KEY,
      run_id text NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      step text NOT NULL,
      kind text NOT NULL,
      owner text NOT NULL,
      team text,
      project text,
      requesters text[] NOT NULL,
      state text NOT NULL,
      subject_ref text NOT NULL,
      roles text[] NOT NULL,
      count integer NOT NULL,
      not_requester boolean NOT NULL,
      votes jsonb NOT NULL DEFAULT '[]',
      payload_ref text,
      seq integer NOT NULL,
      level integer NOT NULL DEFAULT 0,
      revision integer NOT NULL DEFAULT 0,
      expires_at timestamptz NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      decided_at timestamptz
    )`.execute(db);
  await sql`CREATE INDEX idx_approvals_pending ON approvals (created_at, id) WHERE state = 'pending'`.execute(db);
  await sql`CREATE INDEX idx_approvals_run ON approvals (run_id)`.execute(db);

  await sql`
    CREATE TABLE agent_messages (
      id text PRIMARY KEY,
      owner text NOT NULL,
      project text,
      run_id text,
      sender text NOT NULL,
      recipient text NOT NULL,
      body_ref text NOT NULL,
      delivered_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_agent_messages_inbox ON agent_messages (owner, recipient, created_at, id)`.execute(db);
  await sql`CREATE INDEX idx_agent_messages_created ON agent_messages (created_at)`.execute(db);
}
