import { type Kysely, sql } from 'kysely';

/** Who changed what. Rows are only ever added; that holds against every client of the database, ours included. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE audit_log (
      id text PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT clock_timestamp(),
      actor text NOT NULL,
      actor_roles text[] NOT NULL,
      action text NOT NULL,
      target_type text NOT NULL,
      target_id text,
      changes jsonb NOT NULL,
      request_id text NOT NULL,
      ip text NOT NULL
    )`.execute(db);
  await sql`CREATE INDEX idx_audit_log_actor ON audit_log (actor, id)`.execute(db);
  await sql`CREATE INDEX idx_audit_log_action ON audit_log (action, id)`.execute(db);
  await sql`CREATE INDEX idx_audit_log_target ON audit_log (target_id, id)`.execute(db);

  await sql`
    CREATE FUNCTION refuse_audit_log_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'audit_log is append-only: % is refused', TG_OP;
    END $$`.execute(db);
  await sql`
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_log_change()`.execute(db);
  // Also in sessions that switch ordinary triggers off (session_replication_role).
  await sql`ALTER TABLE audit_log ENABLE ALWAYS TRIGGER append_only`.execute(db);
}
