import { setTimeout as sleep } from 'node:timers/promises';
import { cpuSeconds } from '../overhead/processes.ts';
import { table } from '../overhead/table.ts';

const SECONDS = 5;

/**
 * What processes, by what they are called, use while nobody asks for anything. They are there while others are measured.
 */
export async function printIdle(processes: ReadonlyMap<string, readonly number[]>): Promise<void> {
  const before = [...processes.values()].map(cpuSeconds);
  await sleep(SECONDS * 1000);
  const rows = [...processes].map(([name, pids], i) => {
    const used = cpuSeconds(pids) - (before[i] ?? 0);
    return [name, ((used * 1000) / SECONDS).toFixed(0)];
  });
  console.log('### While nobody asks\n');
  table(['process', 'CPU ms/s'], rows);
}
