import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';

// The child process of the embedded database: Postgres in WebAssembly behind a Unix socket that any client can use.
// Started as `node postgres-server.js <data directory> <socket directory>`.

const [dataDir, socketDir] = process.argv.slice(2);
if (!dataDir || !socketDir) throw new Error('usage: postgres-server <data directory> <socket directory>');

// The mark tells a finished directory from one whose making was interrupted; nothing was stored in the latter.
const mark = join(dataDir, 'holdfast-initialised');
if (!existsSync(mark)) rmSync(dataDir, { recursive: true, force: true });
const db = await PGlite.create({ dataDir });
writeFileSync(mark, '');

const socket = join(socketDir, '.s.PGSQL.5432');
rmSync(socket, { force: true });
// PGlite runs one statement at a time, and this server does not keep the messages of several clients apart.
const server = new PGLiteSocketServer({ db, path: socket, maxConnections: 1 });
await server.start();

let stopping = false;
async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  await server.stop();
  await db.close();
  process.exit(0);
}
process.on('SIGTERM', stop);
// The gateway ends it; a Ctrl-C in a terminal reaches the whole process group and must not come first.
process.on('SIGINT', () => {});
// The gateway is gone, however it went.
process.on('disconnect', stop);
process.send?.('ready');
