import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { eventually } from './gateway.ts';

const MAIN = resolve(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');

/** A `holdfast` process as users run it: the compiled command with an environment. */
export class HoldfastProcess {
  stdout = '';
  stderr = '';
  private readonly child: ChildProcess;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;

  constructor(args: readonly string[], env: Record<string, string>, cwd?: string) {
    const inherited = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^(GATEWAY|TEMPORAL|DATABASE|REDIS|VITEST|NODE_)/.test(name)),
    );
    this.child = spawn(process.execPath, [MAIN, ...args], {
      cwd,
      env: { ...inherited, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout?.on('data', (chunk: Buffer) => {
      this.stdout += chunk;
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((done) => this.child.once('close', (code, signal) => done(code ?? signal ?? '')));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Waits for a line on stdout or stderr. */
  async says(pattern: RegExp): Promise<string> {
    const ended = this.ended.then(() => 'ended' as const);
    return eventually(async () => {
      const match = pattern.exec(this.stdout + this.stderr);
      if (match) return match[0];
      if ((await Promise.race([ended, Promise.resolve('running')])) === 'ended') {
        throw new Error(`It ended without saying ${pattern}:\n${this.stdout}\n${this.stderr}`);
      }
      return undefined;
    }, 60_000);
  }

  async kill(signal: NodeJS.Signals): Promise<number | string> {
    this.child.kill(signal);
    return this.ended;
  }
}
