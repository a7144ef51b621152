import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process as noted in a file: its id, and when it started, because ids are used again. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startedAt: string;
}

/** Who runs under `pid` now, or undefined when nobody does. */
export function identify(pid: number): ProcessIdentity | undefined {
  const startedAt = process.platform === 'linux' ? linuxStartTime(pid) : psStartTime(pid);
  return startedAt ? { pid, startedAt } : undefined;
}

/** Field 22 of /proc/PID/stat, in clock ticks since boot, with the boot it counts from. */
function linuxStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in parentheses and may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const zombie = fields[0] === 'Z';
    return zombie ? undefined : `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${fields[19]}`;
  } catch {
    return undefined;
  }
}

function psStartTime(pid: number): string | undefined {
  try {
    const output = execFileSync('ps', ['-p', String(pid), '-o', 'lstart='], { stdio: ['ignore', 'pipe', 'ignore'] });
    return output.toString().trim() || undefined;
  } catch {
    return undefined;
  }
}

export const isRunning = ({ pid, startedAt }: ProcessIdentity): boolean => identify(pid)?.startedAt === startedAt;

const TERM_PATIENCE_MS = 8_000;

/** Ends a process: politely first, then not. Resolves when it is gone. */
export async function endProcess(identity: ProcessIdentity): Promise<void> {
  signal(identity, 'SIGTERM');
  const until = Date.now() + TERM_PATIENCE_MS;
  while (isRunning(identity) && Date.now() < until) await sleep(50);
  signal(identity, 'SIGKILL');
  while (isRunning(identity)) await sleep(20);
}

function signal(identity: ProcessIdentity, name: NodeJS.Signals): void {
  if (!isRunning(identity)) return;
  try {
    process.kill(identity.pid, name);
  } catch {
    // It ended in between.
  }
}
