import { type Kysely, sql } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE encryption_keys (
      id text PRIMARY KEY,
      wrapped bytea NOT NULL,
      kek_id text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )`.execute(db);

  await sql`
    CREATE TABLE provider_keys (
      id text PRIMARY KEY,
      provider text NOT NULL,
      region text,
      team text,
      virtual_key_id text REFERENCES virtual_keys (id) ON DELETE CASCADE,
      weight integer NOT NULL CHECK (weight > 0),
      sealed bytea NOT NULL,
      revision integer NOT NULL DEFAULT 1,
      hint text NOT NULL,
      state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
      benched_until timestamptz,
      bench_reason text,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);
  await sql`CREATE INDEX idx_provider_keys_provider ON provider_keys (provider)`.execute(db);
  await sql`CREATE INDEX idx_provider_keys_virtual_key ON provider_keys (virtual_key_id)`.execute(db);

  await sql`ALTER TABLE attempts ADD COLUMN provider_key_id text`.execute(db);
}
