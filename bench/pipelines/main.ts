import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stopAll, untilIdle } from '../overhead/processes.ts';
import { startUpstream } from '../overhead/targets.ts';
import { compareSides } from './compare.ts';
import { Histories } from './histories.ts';
import { printIdle } from './idle.ts';
import { closedLoop } from './load.ts';
import { Meter } from './meter.ts';
import { measurePatterns } from './patterns.ts';
import { scaleOf } from './scale.ts';
import { startHoldfastSide, startLangGraph } from './sides.ts';
import { Storage } from './storage.ts';
import { measureTurns } from './turns.ts';

// What a step of a pipeline costs: the same five steps in Holdfast and in LangGraph with its Postgres checkpointer, then
// each of Holdfast's patterns, then how the history of an agent grows.
// usage: node dist/bench/pipelines/main.js <postgres url without a database> <langgraph.mjs> [rounds | quick]
// with REDIS_URL, REDIS_PID and POSTGRES_PID in the environment.

const [server, script, rounds = '2'] = process.argv.slice(2);
const { REDIS_URL, REDIS_PID, POSTGRES_PID } = process.env;
if (!server || !script || !REDIS_URL) throw new Error('run.sh says how to start this');
const scale = scaleOf(rounds);

const NOTES = `Both sides use the same Postgres, each a database of its own with 20 connections at most, and the same upstream, which
answers at once. Everything shares this machine's cores. The driver's and the upstream's CPU time count for nobody.
Holdfast: HTTP API with authentication, a ledger row for every call, budgets and limits (looked for, but none is set), Redis,
and Temporal's dev server, whose history is in SQLite, not in Postgres, and not synced to disk with each commit as Postgres's
is. CPU time is that of all of these. A run lasts from its start to its last event.
LangGraph: one Node.js process with a checkpoint for every step and none of that; a run is one HTTP request.
LangGraph, sync: a step's checkpoint is stored before the next step begins. async, its default: while it goes on.
`;

const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
const storage = new Storage(server);
const postgres = Number(POSTGRES_PID);
const meter = new Meter(postgres, storage);
try {
  const upstream = await startUpstream();
  const surroundings = { server, upstream: upstream.port };
  const holdfast = await startHoldfastSide(surroundings, dir, { url: REDIS_URL, pid: Number(REDIS_PID) });
  const langGraph = await startLangGraph(surroundings, script);
  const sides = [holdfast, ...langGraph.modes];
  for (const side of sides) {
    await closedLoop(side.run, { connections: 10, seconds: scale.warmUpSeconds });
    await untilIdle(side.pids);
  }
  console.log(NOTES);
  await printIdle(
    new Map([
      ['Holdfast', holdfast.pids],
      ['LangGraph', langGraph.pids],
      ['Postgres', [postgres]],
    ]),
  );
  await compareSides(sides, meter, scale);
  const histories = await Histories.open(holdfast.temporalPort);
  try {
    await measurePatterns(holdfast, { meter, histories }, scale);
    await measureTurns(holdfast, { histories, storage }, scale);
  } finally {
    await histories.close();
  }
} finally {
  await stopAll();
  await storage.close();
  rmSync(dir, { recursive: true, force: true });
}
