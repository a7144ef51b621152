import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const children: ChildProcess[] = [];

/** Starts a process that ends with this one. */
export function start(command: string, args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stderr?.on('data', (text: Buffer) => said.set(child, `${said.get(child) ?? ''}${text}`.slice(-SAID_LENGTH)));
  children.push(child);
  return child;
}

/** What processes said last on stderr, for when they end too soon. */
const said = new WeakMap<ChildProcess, string>();
const SAID_LENGTH = 4_000;

export async function stopAll(): Promise<void> {
  for (const child of children) child.kill('SIGTERM');
  await Promise.all(
    children.map(async (child) => {
      for (let i = 0; i < 200 && child.exitCode === null && child.signalCode === null; i += 1) await sleep(50);
      child.kill('SIGKILL');
    }),
  );
}

/** Throws when `child` ends first. */
export async function untilAnswers(child: ChildProcess, url: string, seconds: number): Promise<void> {
  const giveUpAt = Date.now() + seconds * 1000;
  for (;;) {
    const response = await fetch(url).catch(() => undefined);
    await response?.body?.cancel();
    if (response && response.status < 500) return;
    if (child.exitCode !== null) throw new Error(`It ended before ${url} answered:\n${said.get(child)}`);
    if (Date.now() > giveUpAt) throw new Error(`${url} did not answer within ${seconds} s`);
    await sleep(200);
  }
}

interface Use {
  /** Ticks of CPU time. */
  readonly ticks: number;
  readonly rssPages: number;
}

/** What the processes and all their descendants use (Linux). */
function useOf(roots: readonly number[]): Use {
  const parents = new Map<number, number>();
  const uses = new Map<number, Use>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      parents.set(Number(name), Number(fields[1]));
      // Its own in user and system mode, and what its children used that have ended.
      const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
      uses.set(Number(name), { ticks, rssPages: Number(fields[21]) });
    } catch {
      // It ended while we looked.
    }
  }
  const belongs = (pid: number): boolean => roots.includes(pid) || (parents.has(pid) && belongs(parents.get(pid) ?? 0));
  let [ticks, rssPages] = [0, 0];
  for (const [pid, use] of uses) {
    if (!belongs(pid)) continue;
    ticks += use.ticks;
    rssPages += use.rssPages;
  }
  return { ticks, rssPages };
}

export const cpuSeconds = (roots: readonly number[]): number => useOf(roots).ticks / TICKS_PER_SECOND;

export const memoryMb = (roots: readonly number[]): number => (useOf(roots).rssPages * PAGE_BYTES) / 2 ** 20;

/** Seconds until the processes use less than a quarter of a core: what their last load left behind is done then. */
export async function untilIdle(roots: readonly number[]): Promise<number> {
  const started = performance.now();
  for (let before = cpuSeconds(roots); ; ) {
    const lookedAt = performance.now();
    await sleep(IDLE_STEP_MS);
    const now = cpuSeconds(roots);
    const idle = (now - before) * 1000 < IDLE_STEP_MS / 4;
    if (idle || lookedAt - started > MAX_IDLE_MS) return (lookedAt - started) / 1000;
    before = now;
  }
}

const IDLE_STEP_MS = 500;
const MAX_IDLE_MS = 60_000;
/** USER_HZ is 100, and a page 4 KB, on every Linux that Node runs on here. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;
