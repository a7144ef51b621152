import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closedLoop, type Measured, median, openLoop, percentile } from './load.ts';
import { cpuSeconds, memoryMb, stopAll, untilIdle } from './processes.ts';
import { ratio, table } from './table.ts';
import { startHoldfast, startLiteLLM, startPortkey, startUpstream, type Target } from './targets.ts';

// What a chat completion costs its caller and the machine: upstream direct, Holdfast, LiteLLM (one worker, no database)
// and Portkey, side by side in one run.
// usage: node dist/bench/overhead/main.js <litellm executable> <portkey's start-server.js> [rounds]
// HOLDFAST_ENV (JSON) and HOLDFAST_PIDS (comma separated) put Holdfast on configured parts and count those as its own.

const [litellm, portkey, rounds = '3'] = process.argv.slice(2);
if (!litellm || !portkey) throw new Error('usage: main.js <litellm executable> <portkey start-server.js> [rounds]');
const ROUNDS = Number(rounds);
const WARM_UP_SECONDS = 8;
const SECONDS = 6;

interface Scenario {
  readonly name: string;
  load(target: Target): Promise<Measured>;
}

const SCENARIOS: readonly Scenario[] = [
  ...[1, 10, 50].map((connections) => ({
    name: `instant upstream, ${connections} connection${connections > 1 ? 's' : ''}`,
    load: (target: Target) => closedLoop(target.endpoint('instant'), connections, SECONDS),
  })),
  {
    name: '300 ms upstream, 10 connections',
    load: (target) => closedLoop(target.endpoint('slow'), 10, SECONDS),
  },
  {
    name: '300 ms upstream, streams, time to first token, 10 connections',
    load: (target) => closedLoop(target.endpoint('slow', true), 10, SECONDS, 'first byte'),
  },
  ...[20, 40].map((perSecond) => ({
    name: `instant upstream, open loop, ${perSecond} a second`,
    load: (target: Target) => openLoop(target.endpoint('instant'), perSecond, SECONDS),
  })),
  {
    name: 'instant upstream, 500 connections',
    load: (target) => closedLoop(target.endpoint('instant'), 500, 2 * SECONDS),
  },
];

interface Result {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** Answered, by the time everything they left behind was done as well. */
  readonly perSecond: number;
  readonly cpuMs: number;
  readonly refused: string;
  readonly rssMb: number;
}

async function run({ load }: Scenario, target: Target): Promise<Result> {
  const before = cpuSeconds(target.pids);
  const { latencies, refused, polite, seconds } = await load(target);
  const rssMb = memoryMb(target.pids);
  const afterwards = await untilIdle(target.pids);
  const count = Math.max(1, latencies.length);
  return {
    p50: percentile(latencies, 0.5),
    p95: percentile(latencies, 0.95),
    p99: percentile(latencies, 0.99),
    perSecond: latencies.length / (seconds + afterwards),
    cpuMs: ((cpuSeconds(target.pids) - before) * 1000) / count,
    refused: [...refused]
      .map(([status, n]) => `${n} × ${status || 'broken'}${polite ? '' : ', no retry-after'}`)
      .join(', '),
    rssMb,
  };
}

const overall = (results: readonly Result[]): Result => {
  const of = (key: Exclude<keyof Result, 'refused'>) => median(results.map((result) => result[key]));
  const [p50, p95, p99, perSecond, cpuMs, rssMb] = (['p50', 'p95', 'p99', 'perSecond', 'cpuMs', 'rssMb'] as const).map(
    of,
  );
  const refused = [...new Set(results.map((result) => result.refused).filter(Boolean))].join('; ');
  return { p50, p95, p99, perSecond, cpuMs, rssMb, refused } as Result;
};

function report(scenario: Scenario, results: ReadonlyMap<string, Result>): void {
  const direct = results.get('upstream direct') as Result;
  const peer = results.get('LiteLLM') as Result;
  const rows = [...results].map(([name, { p50, p95, p99, perSecond, cpuMs, rssMb, refused }]) => {
    const measured = [p50, p95, p99].map((ms) => ms.toFixed(1));
    const costs = [perSecond.toFixed(0), cpuMs.toFixed(1), rssMb.toFixed(0)];
    if (name === 'upstream direct') return [name, ...measured, ...costs, '', '', '', refused];
    const added = p50 - direct.p50;
    const addedP99 = p99 - direct.p99;
    return [
      name,
      ...measured,
      ...costs,
      `${added.toFixed(1)} ms, ${ratio(added, peer.p50 - direct.p50)}`,
      `${addedP99.toFixed(1)} ms, ${ratio(addedP99, peer.p99 - direct.p99)}`,
      ratio(perSecond, peer.perSecond),
      refused,
    ];
  });
  const head = ['target', 'p50 ms', 'p95 ms', 'p99 ms', 'req/s', 'CPU ms/req', 'MB', 'added p50, vs LiteLLM'];
  console.log(`### ${scenario.name}\n`);
  table([...head, 'added p99, vs LiteLLM', 'req/s vs LiteLLM', 'refused'], rows);
}

const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
try {
  const upstream = await startUpstream();
  const env = JSON.parse(process.env.HOLDFAST_ENV ?? '{}') as Record<string, string>;
  const pids = (process.env.HOLDFAST_PIDS ?? '').split(',').filter(Boolean).map(Number);
  const targets = [
    upstream,
    await startHoldfast({ upstream: upstream.port, dir, env, pids }),
    await startLiteLLM(litellm, upstream.port, dir),
    await startPortkey(portkey, upstream.port),
  ];
  const atStart = new Map(targets.map(({ name, pids: roots }) => [name, memoryMb(roots)]));
  for (const target of targets) {
    await closedLoop(target.endpoint('instant'), 20, WARM_UP_SECONDS);
    await untilIdle(target.pids);
  }
  const results = new Map<Scenario, Map<string, Result[]>>(SCENARIOS.map((scenario) => [scenario, new Map()]));
  // Round by round, so that a machine that slows down slows everybody.
  for (let round = 1; round <= ROUNDS; round += 1) {
    for (const [scenario, byTarget] of results) {
      for (const target of targets) {
        const result = await run(scenario, target);
        byTarget.set(target.name, [...(byTarget.get(target.name) ?? []), result]);
        process.stderr.write(`round ${round}/${ROUNDS}: ${scenario.name}, ${target.name}\n`);
      }
    }
  }
  for (const [scenario, byTarget] of results) {
    report(scenario, new Map([...byTarget].map(([name, measured]) => [name, overall(measured)])));
  }
  console.log('### Start and memory\n');
  table(
    ['target', 'seconds to the first answer', 'MB after it', 'MB after the load'],
    targets.map(({ name, startSeconds, pids: roots }) => [
      name,
      startSeconds.toFixed(1),
      (atStart.get(name) ?? 0).toFixed(0),
      memoryMb(roots).toFixed(0),
    ]),
  );
} finally {
  await stopAll();
  rmSync(dir, { recursive: true, force: true });
}
