import { type Kysely, sql } from 'kysely';

/** What receivers are told about runs, and every try to do so. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE webhook_deliveries (
      id text PRIMARY KEY,
      run_id text NOT NULL,
      owner text NOT NULL,
      project text,
      type text NOT NULL,
      occurrence integer NOT NULL,
      url text NOT NULL,
      receiver bytea NOT NULL,
      payload bytea NOT NULL,
      state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
      send integer NOT NULL DEFAULT 1,
      attempts integer NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT now(),
      delivered_at timestamptz,
      UNIQUE (run_id, type, occurrence)
    )`.execute(db);
  await sql`CREATE INDEX idx_webhook_deliveries_run ON webhook_deliveries (run_id, id)`.execute(db);
  await sql`CREATE INDEX idx_webhook_deliveries_created ON webhook_deliveries (created_at)`.execute(db);

  await sql`
    CREATE TABLE webhook_attempts (
      delivery_id text NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
      n integer NOT NULL,
      at timestamptz NOT NULL,
      status integer,
      error text,
      latency_ms integer NOT NULL,
      PRIMARY KEY (delivery_id, n)
    )`.execute(db);
}
