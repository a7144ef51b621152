import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type EmbeddedServer, superviseChild } from './child.ts';
import type { DataDir } from './data-dir.ts';

/** Starts the embedded database. The address is a directory for `connectDatabase`. */
export async function startPostgres(dataDir: DataDir): Promise<EmbeddedServer> {
  await dataDir.endOrphan('postgres');
  // Socket paths are limited to about 100 bytes, data directories are not.
  const socketDir = mkdtempSync(join(tmpdir(), 'holdfast-'));
  const entry = compiled('postgres-server.js');
  const log = openSync(dataDir.file('postgres.log'), 'a', 0o600);
  const child = fork(entry, [dataDir.file('postgres'), socketDir], { stdio: ['ignore', log, log, 'ipc'] });
  if (child.pid) dataDir.noteChild('postgres', child.pid);
  await ready(child, dataDir.file('postgres.log'));
  return superviseChild(child, {
    name: 'The embedded database',
    address: socketDir,
    cleanUp: () => rmSync(socketDir, { recursive: true, force: true }),
  });
}

function ready(child: ChildProcess, log: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('exit', (code) => reject(new Error(`The embedded database did not start (exit ${code}); see ${log}`)));
    child.once('error', reject);
  });
}

/** A child runs compiled code, also when this module is run from source. */
function compiled(name: string): string {
  const here = fileURLToPath(import.meta.url);
  return here.endsWith('.ts') ? join(dirname(here), '..', 'dist', 'embedded', name) : join(dirname(here), name);
}
