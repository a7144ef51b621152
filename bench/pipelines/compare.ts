import { median } from '../overhead/load.ts';
import { ratio, table } from '../overhead/table.ts';
import { FIVE_STEPS } from './agents.ts';
import type { Measured, Meter } from './meter.ts';
import type { Scale } from './scale.ts';
import type { Side } from './sides.ts';

/** What others are compared with. */
const PEER = 'LangGraph, sync';

type Results = ReadonlyMap<Side, readonly Measured[]>;

/** The same five steps on all sides. */
export async function compareSides(sides: readonly Side[], meter: Meter, scale: Scale): Promise<void> {
  const { rounds, seconds, connections } = scale;
  const results = new Map(
    connections.map((count) => [count, new Map<Side, Measured[]>(sides.map((side) => [side, []]))]),
  );
  // Round by round, so that a machine that slows down slows everybody.
  for (let round = 1; round <= rounds; round += 1) {
    for (const [count, bySide] of results) {
      for (const [side, measured] of bySide) {
        process.stderr.write(`round ${round}/${rounds}: ${count} at a time, ${side.name}\n`);
        measured.push(await meter.measure(side, { connections: count, seconds }));
      }
    }
  }
  console.log('### Five steps in a row\n');
  printLoads(results);
  console.log('### What five steps in a row keep\n');
  printStored(new Map(sides.map((side) => [side, [...results.values()].flatMap((bySide) => bySide.get(side) ?? [])])));
}

const stepsOf = ({ ids }: Measured): number => ids.length * FIVE_STEPS.steps;

function printLoads(results: ReadonlyMap<number, Results>): void {
  const rows = [...results].flatMap(([count, bySide]) => {
    const lines = [...bySide].map(([side, measured]) => ({ name: side.name, ...lineOf(measured) }));
    const peer = lines.find(({ name }) => name === PEER);
    return lines.map(({ name, perSecond, p50, p95, own, postgres, failed }) => [
      String(count),
      name,
      perSecond.toFixed(1),
      (perSecond * FIVE_STEPS.steps).toFixed(1),
      p50.toFixed(1),
      p95.toFixed(1),
      own.toFixed(1),
      postgres.toFixed(1),
      ...(peer && name !== PEER
        ? [ratio(perSecond, peer.perSecond), ratio(p50, peer.p50), ratio(own + postgres, peer.own + peer.postgres)]
        : ['', '', '']),
      failed > 0 ? String(failed) : '',
    ]);
  });
  const measures = ['runs/s', 'steps/s', 'p50 ms', 'p95 ms', 'CPU ms/step', 'of Postgres besides'];
  const ratios = ['runs/s', 'p50', 'CPU'].map((measure) => `${measure} vs ${PEER}`);
  table(['at a time', 'side', ...measures, ...ratios, 'failed'], rows);
}

function lineOf(measured: readonly Measured[]) {
  const of = (measure: (one: Measured) => number) => median(measured.map(measure));
  return {
    perSecond: of(({ runsPerSecond }) => runsPerSecond),
    p50: of(({ p50 }) => p50),
    p95: of(({ p95 }) => p95),
    own: of((one) => (one.cpu * 1000) / stepsOf(one)),
    postgres: of((one) => (one.postgresCpu * 1000) / stepsOf(one)),
    failed: measured.reduce((sum, { failed }) => sum + failed, 0),
  };
}

/** Of all loads together: tables grow by many pages at a time. */
function printStored(results: Results): void {
  const rows = [...results].map(([{ name, files }, measured]) => {
    const steps = sum(measured, stepsOf);
    const perStep = (measure: (one: Measured) => number) => kb(sum(measured, measure) / steps);
    return [
      name,
      String(steps),
      perStep(({ database }) => database),
      perStep(({ writtenAhead }) => writtenAhead),
      files.length > 0 ? perStep((one) => one.files) : '',
    ];
  });
  const measures = ['database KB/step', "Postgres's log KB/step", "Temporal's database KB/step"];
  table(['side', 'steps', ...measures], rows);
}

const sum = (measured: readonly Measured[], of: (one: Measured) => number): number =>
  measured.reduce((total, one) => total + of(one), 0);

const kb = (bytes: number): string => (bytes / 1024).toFixed(1);
