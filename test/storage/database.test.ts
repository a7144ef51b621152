import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { connectDatabase, migrate, pingDatabase } from '../../storage/postgres/database.ts';
import { migrations } from '../../storage/postgres/migrations/index.ts';
import { inject } from '../support/inject.ts';

const open = (url: string) => connectDatabase({ url, maxConnections: 4, onError: () => {} });

describe('a database that cannot be reached', () => {
  it.each(['postgres://postgres@127.0.0.1:9/none', '/no/such/directory'])('%s is a 503, not a fault', async (url) => {
    const db = open(url);
    await expect(pingDatabase(db)).rejects.toMatchObject({ code: 'gateway_unavailable', retryAfterMs: 2_000 });
    await db.destroy();
  });
});

it('a database that resets the first connections is tried again', async () => {
  let refused = 0;
  const door = createServer((socket) => {
    socket.on('error', () => {});
    if (refused < 3) {
      refused += 1;
      socket.resetAndDestroy();
      return;
    }
    const server = connect(join(inject('embeddedPostgres'), '.s.PGSQL.5432'));
    server.on('error', () => socket.destroy());
    socket.pipe(server).pipe(socket);
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  const { port } = door.address() as AddressInfo;
  const db = connectDatabase({
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    maxConnections: 1,
    onError() {},
  });
  await pingDatabase(db);
  expect(refused).toBe(3);
  await db.destroy();
  door.close();
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
