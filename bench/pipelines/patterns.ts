import { table } from '../overhead/table.ts';
import { PATTERNS } from './agents.ts';
import type { Histories } from './histories.ts';
import type { Meter } from './meter.ts';
import type { Scale } from './scale.ts';
import type { HoldfastSide } from './sides.ts';

const CONNECTIONS = 10;
/** Runs whose histories are looked at; they are nearly alike. */
const SAMPLE = 5;

/** What each of Holdfast's patterns costs. */
export async function measurePatterns(
  side: HoldfastSide,
  { meter, histories }: { readonly meter: Meter; readonly histories: Histories },
  { seconds }: Scale,
): Promise<void> {
  const rows: string[][] = [];
  for (const { name, workflow, steps } of PATTERNS) {
    process.stderr.write(`${name}\n`);
    const load = { connections: CONNECTIONS, seconds };
    const measured = await meter.measure(side, load, () => side.gateway.run(workflow, 'Hello!'));
    const { events, bytes } = await histories.mean(measured.ids.slice(-SAMPLE));
    const { ids, runsPerSecond, p50, p95, cpu, postgresCpu, failed } = measured;
    rows.push([
      name,
      String(steps),
      (runsPerSecond * steps).toFixed(1),
      p50.toFixed(0),
      p95.toFixed(0),
      (((cpu + postgresCpu) * 1000) / (ids.length * steps)).toFixed(1),
      (events / steps).toFixed(1),
      (bytes / steps).toFixed(0),
      failed > 0 ? String(failed) : '',
    ]);
  }
  console.log(`### Patterns, ${CONNECTIONS} at a time\n`);
  const measures = ['steps/s', 'run p50 ms', 'p95 ms', 'CPU ms/step', 'events/step', 'history bytes/step'];
  table(['pattern', 'steps', ...measures, 'failed'], rows);
}
