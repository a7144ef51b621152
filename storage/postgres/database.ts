import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kysely, Migrator, PostgresDialect, type PostgresPoolClient, sql } from 'kysely';
import { LRUCache } from 'lru-cache';
import pg from 'pg';
import { HoldfastError } from '../../domain/errors.ts';
import { migrations } from './migrations/index.ts';
import type { Database } from './schema.ts';

export type Sql = Kysely<Database>;

export interface DatabaseOptions {
  /** A `postgres://` URL, or a directory that holds the socket of a local server. */
  readonly url: string;
  /** Connections at most. @default 20 */
  readonly maxConnections?: number;
  /** Told about connections lost while idle. */
  readonly onError: (error: Error) => void;
}

// Nano-dollars and counts stay below 2^53 by far (see domain/money.ts), so bigints are numbers here.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);
// A date is a day, not the local midnight that node-postgres would make of it.
pg.types.setTypeParser(pg.types.builtins.DATE, String);

/** Milliseconds to wait for a connection before a request is answered with 503. */
const CONNECTION_TIMEOUT_MS = 5_000;
/** Milliseconds within which a refused or reset connection is tried again: a restart, a failover, a single slot not yet free. */
const RECONNECT_PATIENCE_MS = 2_000;
const RECONNECT_DELAY_MS = 100;
/** Milliseconds after which the server gives up a statement; every one of ours takes milliseconds. */
const STATEMENT_TIMEOUT_MS = 15_000;

/**
 * Statements look rows up by keys, so that one plan is good for all values; Postgres would plan anew for each, which
 * takes longer than to run them. For the same reason there is nothing to compile.
 */
const SESSION_SETTINGS = 'SET plan_cache_mode = force_generic_plan; SET jit = off';

/** Opens a pool. Nothing connects before the first query. */
export function connectDatabase({ url, maxConnections = 20, onError }: DatabaseOptions): Sql {
  const pool = new pg.Pool({
    ...(url.startsWith('/') ? { host: url, user: 'postgres', database: 'postgres' } : { connectionString: url }),
    max: maxConnections,
    // Never down to none: the embedded database takes a new connection only once it noticed that the old one closed.
    min: 1,
    connectionTimeoutMillis: CONNECTION_TIMEOUT_MS,
    query_timeout: STATEMENT_TIMEOUT_MS,
    application_name: 'holdfast',
  });
  pool.on('error', onError);
  // The embedded database is one session, whoever connects: a new connection finds the statements of the last one.
  const settings = url.startsWith('/') ? `DEALLOCATE ALL; ${SESSION_SETTINGS}` : SESSION_SETTINGS;
  pool.on('connect', (client) => void client.query(settings).catch(onError));
  const nameOf = statementNames();
  const connect = async () => guarded(await reaching(() => patiently(() => pool.connect())), nameOf);
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool: { connect, end: () => pool.end() } }) });
}

/** Nothing was sent yet, so that connecting again repeats nothing. */
async function patiently<T>(connect: () => Promise<T>): Promise<T> {
  const giveUpAt = Date.now() + RECONNECT_PATIENCE_MS;
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      if (!isUnreachable(error) || Date.now() > giveUpAt) throw error;
      await sleep(RECONNECT_DELAY_MS);
    }
  }
}

/**
 * A client whose lost connection is `gateway_unavailable` to everyone above. Statements with parameters are prepared
 * under a name, so that a connection plans each once: measured, planning was most of what an admission took.
 */
const guarded = (client: pg.PoolClient, nameOf: (text: string) => string): PostgresPoolClient => ({
  query: ((text: string, values: unknown[] = []) =>
    reaching(
      () =>
        client.query({
          text,
          values,
          ...(values.length > 0 && { name: nameOf(text) }),
        }) as unknown as Promise<never>,
    )) as never,
  release: () => client.release(),
});

/** Statements of our code are few; the limit is for lists that differ in length. */
const MAX_NAMED_STATEMENTS = 1_000;

function statementNames(): (text: string) => string {
  const names = new LRUCache<string, string>({ max: MAX_NAMED_STATEMENTS });
  return (text) => {
    const known = names.get(text);
    if (known) return known;
    const name = createHash('sha256').update(text).digest('base64url').slice(0, STATEMENT_NAME_LENGTH);
    names.set(text, name);
    return name;
  };
}

const STATEMENT_NAME_LENGTH = 22;

/** Brings the schema up to date; safe to run from several processes at once. Returns the migrations it applied. */
export async function migrate(db: Sql): Promise<readonly string[]> {
  const { error, results = [] } = await migratorOf(db).migrateToLatest();
  if (error) throw error;
  return results.map((result) => result.migrationName);
}

/** Migrations that this code needs and the database does not have yet. */
export async function pendingMigrations(db: Sql): Promise<readonly string[]> {
  const known = await migratorOf(db).getMigrations();
  return known.filter(({ executedAt }) => executedAt === undefined).map(({ name }) => name);
}

const migratorOf = (db: Sql): Migrator =>
  new Migrator({ db, provider: { getMigrations: async () => ({ ...migrations }) } });

/** Rejects when the database cannot be reached. */
export async function pingDatabase(db: Sql): Promise<void> {
  await sql`SELECT 1`.execute(db);
}

/**
 * Runs a query. A database that cannot be reached becomes `gateway_unavailable`, a text that it cannot hold
 * `caller_invalid_request`; any other error stays.
 */
async function reaching<T>(query: () => Promise<T>): Promise<T> {
  try {
    return await query();
  } catch (error) {
    if (isUnstorable(error)) {
      throw new HoldfastError('caller_invalid_request', 'Text must not hold NUL characters.', { cause: error });
    }
    if (!isUnreachable(error)) throw error;
    throw new HoldfastError('gateway_unavailable', 'The gateway’s database cannot be reached. Try again shortly.', {
      retryAfterMs: 2_000,
      cause: error,
    });
  }
}

/** Postgres has no NUL in text: 22021 in a value, 22P05 in JSON. */
const isUnstorable = (error: unknown): boolean =>
  /^(22021|22P05)$/.test((error as { code?: string } | null)?.code ?? '');

/** Connection errors have a system code or no SQLSTATE at all; 57P are shutdowns, 53 a server out of resources. */
function isUnreachable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string') return /^(E[A-Z]+|57P\d\d|53\d\d\d|08\d\d\d)$/.test(code);
  return error instanceof Error && /timeout|connection|terminated/i.test(error.message);
}

/** Whether `error` is a violated unique constraint, optionally one of that name. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  const { code, constraint: violated } = (error ?? {}) as { code?: string; constraint?: string };
  return code === '23505' && (constraint === undefined || violated === constraint);
}

/** Whether `error` is a reference to a row that is not there, or to one that is still needed. */
export const isForeignKeyViolation = (error: unknown): boolean => (error as { code?: string } | null)?.code === '23503';
