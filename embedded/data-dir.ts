import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../config/yaml-source.ts';
import { endProcess, identify, isRunning, type ProcessIdentity } from './process-identity.ts';

export interface Secrets {
  readonly masterKey: string;
  /** 32 bytes in hex. */
  readonly encryptionKey: string;
}

/** The directory that holds everything an all-in-one gateway keeps: keys, databases, logs, notes of its processes. */
export class DataDir {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Takes the directory for this process. Throws `ConfigError` when another gateway runs in it. */
  static open(path: string): DataDir {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    chmodSync(path, 0o700);
    const dir = new DataDir(path);
    dir.lock();
    return dir;
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** The keys of this directory, made on first use and kept. */
  secrets(): Secrets {
    const kept = this.readJson<Secrets>('secrets.json');
    if (kept?.masterKey && kept.encryptionKey) return kept;
    const made = {
      masterKey: `sk-master-${randomBytes(24).toString('base64url')}`,
      encryptionKey: randomBytes(32).toString('hex'),
    };
    this.writeJson('secrets.json', made);
    return made;
  }

  /** Notes a child, so that the next start can end it if this process dies without doing so. */
  noteChild(name: string, pid: number): void {
    const identity = identify(pid);
    if (identity) this.writeJson(`${name}.pid`, identity);
  }

  /** Ends the child that an earlier process left behind, if it still runs. */
  async endOrphan(name: string): Promise<boolean> {
    const noted = this.readJson<ProcessIdentity>(`${name}.pid`);
    const orphaned = noted !== undefined && isRunning(noted);
    if (orphaned) await endProcess(noted);
    rmSync(this.file(`${name}.pid`), { force: true });
    return orphaned;
  }

  close(): void {
    rmSync(this.file(LOCK), { force: true });
  }

  private lock(): void {
    const self = identify(process.pid);
    const mine = this.file(`${LOCK}.${process.pid}`);
    writeFileSync(mine, JSON.stringify(self));
    try {
      // A link appears whole or not at all, and fails if the name is taken.
      linkSync(mine, this.file(LOCK));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const holder = this.readJson<ProcessIdentity>(LOCK);
      if (holder && isRunning(holder)) {
        throw new ConfigError(
          `A gateway already runs in ${this.path} (process ${holder.pid}). Stop it, or set GATEWAY_DATA_DIR to another directory.`,
        );
      }
      renameSync(mine, this.file(LOCK));
      return;
    } finally {
      rmSync(mine, { force: true });
    }
  }

  private readJson<T>(name: string): T | undefined {
    try {
      return JSON.parse(readFileSync(this.file(name), 'utf8')) as T;
    } catch {
      return undefined;
    }
  }

  private writeJson(name: string, value: unknown): void {
    const draft = this.file(`${name}.${process.pid}.tmp`);
    writeFileSync(draft, JSON.stringify(value), { mode: 0o600 });
    renameSync(draft, this.file(name));
  }
}

const LOCK = 'holdfast.lock';

/** The keys of a directory in which a gateway runs or ran, for commands that talk to it. */
export function readSecrets(path: string): Secrets | undefined {
  try {
    return JSON.parse(readFileSync(join(path, 'secrets.json'), 'utf8')) as Secrets;
  } catch {
    return undefined;
  }
}
