import { table } from '../overhead/table.ts';
import { inputFor, WITH_TOOL } from './agents.ts';
import type { Histories } from './histories.ts';
import type { Scale } from './scale.ts';
import type { HoldfastSide } from './sides.ts';
import type { Storage } from './storage.ts';

const TURNS = [1, 10, 50];

/** How what is kept of one agent grows with its turns: each is a model call, and all but the last call a tool. */
export async function measureTurns(
  side: HoldfastSide,
  { histories, storage }: { readonly histories: Histories; readonly storage: Storage },
  { turns: all }: Scale,
): Promise<void> {
  const rows: string[][] = [];
  for (const turns of TURNS) {
    process.stderr.write(`an agent of ${turns} turns\n`);
    const runs = Math.ceil(all / turns);
    const ids: string[] = [];
    const { database } = await storage.of(side);
    const started = performance.now();
    for (let i = 0; i < runs; i += 1) ids.push(await side.gateway.run(WITH_TOOL, inputFor(turns)));
    const ms = (performance.now() - started) / (runs * turns);
    const grown = ((await storage.of(side)).database - database) / (runs * turns);
    const { events, bytes } = await histories.mean(ids);
    const measured = [turns, runs, ms, events, events / turns, bytes, bytes / turns].map(Math.round);
    rows.push([...measured.map(String), (grown / 1024).toFixed(1)]);
  }
  console.log('### One agent with a tool, one run at a time\n');
  const kept = ['events', 'events/turn', 'history bytes', 'history bytes/turn', 'database KB/turn'];
  table(['turns', 'runs', 'ms/turn', ...kept], rows);
}
