import { sql } from 'kysely';
import { describe, expect, inject, it } from 'vitest';
import { connectDatabase, migrate, pingDatabase } from '../../storage/postgres/database.ts';
import { migrations } from '../../storage/postgres/migrations/index.ts';

const open = (url: string) => connectDatabase({ url, maxConnections: 4, onError: () => {} });

describe('a database that cannot be reached', () => {
  it.each(['postgres://postgres@127.0.0.1:9/none', '/no/such/directory'])('%s is a 503, not a fault', async (url) => {
    const db = open(url);
    await expect(pingDatabase(db)).rejects.toMatchObject({ code: 'gateway_unavailable', retryAfterMs: 2_000 });
    await db.destroy();
  });
});

describe.skipIf(inject('postgres') === null)('migrations', () => {
  it('run once when several processes start together', async () => {
    const admin = open(inject('postgres') ?? '');
    await sql`CREATE DATABASE migrations_at_once`.execute(admin);
    const url = (inject('postgres') ?? '').replace(/postgres$/, 'migrations_at_once');
    const processes = Array.from({ length: 4 }, () => open(url));
    const applied = await Promise.all(processes.map((db) => migrate(db)));
    expect(applied.flat()).toEqual(Object.keys(migrations));
    await Promise.all(processes.map((db) => db.destroy()));
    await admin.destroy();
  });

  it('leave mistakes in a statement what they are', async () => {
    const db = open(inject('postgres') ?? '');
    await expect(sql`SELECT no_such_column`.execute(db)).rejects.toMatchObject({ code: '42703' });
    await db.destroy();
  });
});
