import { sql } from 'kysely';
import pg from 'pg';
import type { Sql } from '../../storage/postgres/database.ts';

export const KEYS = 100_000;
export const TEAMS = 1_000;
const ORGANISATIONS = 20;
/** Small enough for the time that a statement is given. */
const BATCH = 50_000;
const PROGRESS_EVERY = 1_000_000;

/** The token of the `i`th key. */
export const tokenOf = (i: number): string => `sk-hf-bench-${i}`;

/** Fills the ledger up to `rows` rows of the last 28 days, and makes tenants, keys, budgets and limits the first time. */
export async function grow(db: Sql, rows: number, onProgress: (line: string) => void): Promise<void> {
  const { rows: counted } = await sql<{ n: number }>`SELECT count(*) AS n FROM virtual_keys`.execute(db);
  if (counted[0]?.n === 0) await populate(db);
  const { rows: present } = await sql<{ n: number }>`SELECT count(*) AS n FROM llm_requests`.execute(db);
  for (let from = present[0]?.n ?? 0; from < rows; from += BATCH) {
    const to = Math.min(rows, from + BATCH);
    await fill(db, from, to);
    if (to % PROGRESS_EVERY === 0) onProgress(`${to} ledger rows`);
  }
}

/** As autovacuum would do within a minute. On a connection of its own: the gateway's give up after 15 s. */
export async function vacuum(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query('VACUUM ANALYZE');
  await client.end();
}

async function populate(db: Sql): Promise<void> {
  await sql`INSERT INTO organisations (id, name) SELECT 'org-' || i, 'o' FROM generate_series(0, ${ORGANISATIONS - 1}::integer) i`.execute(
    db,
  );
  await sql`
    INSERT INTO teams (id, name, organisation)
    SELECT 'team-' || i, 't', 'org-' || i % ${ORGANISATIONS}::integer FROM generate_series(0, ${TEAMS - 1}::integer) i`.execute(
    db,
  );
  await sql`
    INSERT INTO virtual_keys (id, name, key_hash, key_prefix, team)
    SELECT 'vk-' || i, 'k', sha256(convert_to('sk-hf-bench-' || i, 'UTF8')), 'sk-hf-bench', 'team-' || i % ${TEAMS}::integer
    FROM generate_series(0, ${KEYS - 1}::integer) i`.execute(db);
  for (const [type, table] of [
    ['key', 'virtual_keys'],
    ['team', 'teams'],
    ['organisation', 'organisations'],
  ] as const) {
    await sql`
      INSERT INTO budgets (id, scope_type, scope_id, period, kind, limit_nanos)
      SELECT ${type} || '-' || id, ${type}, id, 'monthly', 'hard', 1000000000000000 FROM ${sql.table(table)}`.execute(
      db,
    );
    await sql`
      INSERT INTO rate_limits (scope_type, scope_id, requests_per_minute, tokens_per_minute)
      SELECT ${type}, id, 1000000000, 1000000000 FROM ${sql.table(table)}`.execute(db);
  }
}

const fill = (db: Sql, from: number, to: number) =>
  sql`
  INSERT INTO llm_requests
    (id, run_id, request_id, owner, virtual_key_id, organisation, team, surface, prompt, body_ref, model_requested,
     model_used, provider_used, parameters, timestamp, state, status, latency_ms, cost_nanos, prompt_tokens,
     completion_tokens, total_tokens, completed_at)
  SELECT 'chatcmpl-' || lpad(i::text, 32, '0'), 'run-' || i, 'request-' || i, 'team:team-' || i % ${TEAMS}::integer,
    'vk-' || i % ${KEYS}::integer, 'org-' || (i % ${TEAMS}::integer) % ${ORGANISATIONS}::integer,
    'team-' || i % ${TEAMS}::integer, 'chat.completions', '', 'ref-' || i, 'gpt-5-mini', 'gpt-5-mini', 'openai', '{}',
    now() - interval '28 days' * random(), 'completed', 'success', 800, 1000, 100, 50, 150, now()
  FROM generate_series(${from}::integer, ${to - 1}::integer) i`.execute(db);
