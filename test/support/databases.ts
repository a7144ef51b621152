import { pino } from 'pino';
import { afterAll, beforeAll, describe } from 'vitest';
import type { SweepDeps } from '../../activities/sweep.ts';
import { CallStreams } from '../../calls/call-streams.ts';
import type { CallsDeps } from '../../calls/calls.ts';
import { Quota } from '../../calls/quota.ts';
import { newId } from '../../domain/ids.ts';
import { type Attribution, NOBODY } from '../../domain/scope.ts';
import { createCipher } from '../../storage/cipher.ts';
import { MemoryCounters } from '../../storage/counters/memory.ts';
import { Admissions } from '../../storage/postgres/admissions.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import { connectDatabase, migrate, type Sql } from '../../storage/postgres/database.ts';
import { Files } from '../../storage/postgres/files.ts';
import { Idempotency } from '../../storage/postgres/idempotency.ts';
import { type NewRequest, Requests } from '../../storage/postgres/requests.ts';
import { Reservations } from '../../storage/postgres/reservations.ts';
import { RunEvents } from '../../storage/postgres/run-events.ts';
import { Runs } from '../../storage/postgres/runs.ts';
import { DEFAULT_SETTINGS, type VirtualKeySettings } from '../../storage/postgres/virtual-keys.ts';
import { Webhooks } from '../../storage/postgres/webhooks.ts';
import { JournalledStreamLog } from '../../storage/streams/journalled.ts';
import { MemoryStreamLog } from '../../storage/streams/memory.ts';
import type { StreamLog } from '../../storage/streams/stream-log.ts';
import { inject } from './inject.ts';

export const ENCRYPTION_KEY = 'a1'.repeat(32);

/** A virtual key without limits. */
export const KEY_SETTINGS: VirtualKeySettings = { ...DEFAULT_SETTINGS, name: 'test' };

export interface TestDatabase {
  /** Set before the first test runs. */
  db: Sql;
}

/** Runs a suite against the embedded Postgres and, where one is installed, a real one. */
export function onEveryDatabase(name: string, suite: (database: TestDatabase) => void): void {
  describe.each([
    ['embedded Postgres', inject('embeddedPostgres'), 1],
    ['Postgres', inject('postgres'), 20],
  ])(`${name} on %s`, (_name, url, maxConnections) => {
    describe.skipIf(url === null)('', () => {
      const database = {} as TestDatabase;
      beforeAll(async () => {
        database.db = connectDatabase({ url: url ?? '', maxConnections, onError: () => {} });
        await migrate(database.db);
      });
      afterAll(() => database.db?.destroy());
      suite(database);
    });
  });
}

/** Runs a suite against real Postgres only: the embedded one serialises everything and proves no race. */
export function onRealPostgres(name: string, suite: (database: TestDatabase) => void): void {
  const url = inject('postgres');
  describe.skipIf(url === null)(`${name} on Postgres`, () => {
    const database = {} as TestDatabase;
    beforeAll(async () => {
      database.db = connectDatabase({ url: url ?? '', maxConnections: 20, onError: () => {} });
      await migrate(database.db);
    });
    afterAll(() => database.db?.destroy());
    suite(database);
  });
}

/** Opens the database that `configured` gateways use, for a suite's time. */
export function useDatabase(): TestDatabase {
  const database = {} as TestDatabase;
  beforeAll(async () => {
    const real = inject('postgres');
    const url = real ?? inject('embeddedPostgres');
    database.db = connectDatabase({ url, maxConnections: real ? 10 : 1, onError: () => {} });
    await migrate(database.db);
  });
  afterAll(() => database.db?.destroy());
  return database;
}

/** What calls take from limits and budgets; nobody is told of budgets. */
export function moneyOf(db: Sql): Pick<CallsDeps, 'db' | 'quota' | 'admissions' | 'reservations'> {
  const reservations = new Reservations(db);
  const logger = pino({ level: 'silent' });
  const quota = new Quota({ db, counters: new MemoryCounters(), reservations, tellsOfBudgets: true, logger });
  return { db, quota, admissions: new Admissions(db), reservations };
}

/** What calls show, with nobody waiting for runs in the background. */
export function callStreams(db: Sql, streams: StreamLog = new MemoryStreamLog()): CallStreams {
  const events = new RunEvents(db, createCipher(ENCRYPTION_KEY));
  const journal = new JournalledStreamLog(events, streams);
  return new CallStreams({ streams, journal, runs: new Runs(db, events), logger: pino({ level: 'silent' }) });
}

/** What a sweep works with, but for what it asks Temporal. */
export function sweepDeps(db: Sql): Omit<SweepDeps, 'presenceOf'> {
  const events = new RunEvents(db, createCipher(ENCRYPTION_KEY));
  const runs = new Runs(db, events);
  const journal = new JournalledStreamLog(events, new MemoryStreamLog());
  const logger = pino({ level: 'silent' });
  const cipher = createCipher(ENCRYPTION_KEY);
  const [files, webhooks] = [new Files(db, cipher), new Webhooks(db, cipher)];
  return { db, runs, journal, idempotency: new Idempotency(db), retentionDays: 30, files, webhooks, cipher, logger };
}

/** Whose a request for `attribution` would be if its caller were that key. */
export const ownerOf = ({ team, keyId }: Attribution): string =>
  team ? `team:${team}` : keyId ? `key:${keyId}` : 'master';

/** A request that is not stored yet. */
export function newRequest(db: Sql, overrides: Partial<NewRequest> = {}): NewRequest {
  const id = newId('chatcmpl');
  const bodies = new Bodies(db, createCipher(ENCRYPTION_KEY));
  return {
    id,
    runId: id,
    requestId: id,
    acceptedAt: new Date(),
    owner: ownerOf(overrides.attribution ?? NOBODY),
    attribution: NOBODY,
    feature: null,
    markupPercent: 0,
    surface: 'chat.completions',
    modelRequested: 'm',
    prompt: '',
    parameters: {},
    body: bodies.seal({ messages: [{ role: 'user', content: id }] }),
    ...overrides,
  };
}

/** Stores a request and returns its id. */
export async function insertRequest(db: Sql, overrides: Partial<NewRequest> = {}): Promise<string> {
  const request = newRequest(db, overrides);
  await new Requests(db).insert(request);
  return request.id;
}
