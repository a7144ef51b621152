import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Endpoint, percentile } from '../overhead/load.ts';
import { cpuSeconds, memoryMb, stopAll, untilIdle } from '../overhead/processes.ts';
import { startHoldfast, startLiteLLM, startPortkey, startUpstream, type Target } from '../overhead/targets.ts';

// Many streams at once through one process each: 200 tokens at 50 a second. What a token is late by, what a stream costs.
// usage: node dist/bench/streaming/main.js <litellm executable> <portkey's start-server.js>

const STREAMS = [100, 1_000];
const TOKENS = 200;
/** Streams begin within this many seconds, as callers do not come in one moment. */
const RAMP_SECONDS = 2;

const [litellm, portkey] = process.argv.slice(2);
if (!litellm || !portkey) throw new Error('usage: main.js <litellm executable> <portkey start-server.js>');

interface Streamed {
  /** Milliseconds from the upstream's writing of each token to its arrival. */
  readonly delays: number[];
  /** Milliseconds between one token of a stream and the next. */
  readonly gaps: number[];
  complete: number;
}

function stream({ port, path, headers, body }: Endpoint, agent: Agent, into: Streamed): Promise<void> {
  return new Promise((resolve) => {
    let tokens = 0;
    let last: number | undefined;
    const outgoing = request({ host: '127.0.0.1', port, path, method: 'POST', agent, headers }, (response) => {
      response.setEncoding('utf8');
      let rest = '';
      response.on('data', (text: string) => {
        const now = performance.timeOrigin + performance.now();
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          const [, sentAt] = /"content": ?" (\d+\.\d)"/.exec(line) ?? [];
          if (!sentAt) continue;
          tokens += 1;
          into.delays.push(now - Number(sentAt));
          if (last !== undefined) into.gaps.push(now - last);
          last = now;
        }
      });
      response.once('end', () => {
        if (tokens === TOKENS) into.complete += 1;
        resolve();
      });
      response.once('error', () => resolve());
    });
    outgoing.once('error', () => resolve());
    outgoing.end(body);
  });
}

async function measure(target: Target, count: number): Promise<readonly string[]> {
  const into: Streamed = { delays: [], gaps: [], complete: 0 };
  const agent = new Agent({ keepAlive: false });
  const idleMb = memoryMb(target.pids);
  const cpuBefore = cpuSeconds(target.pids);
  const started = performance.now();
  const endpoint = target.endpoint('paced', true);
  let peakMb = idleMb;
  const watch = setInterval(() => {
    peakMb = Math.max(peakMb, memoryMb(target.pids));
  }, 500);
  await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      await sleep((RAMP_SECONDS * 1000 * i) / count);
      await stream(endpoint, agent, into);
    }),
  );
  clearInterval(watch);
  const seconds = (performance.now() - started) / 1000;
  await untilIdle(target.pids);
  const delays = Float64Array.from(into.delays).sort();
  const gaps = Float64Array.from(into.gaps).sort();
  const of = (sorted: Float64Array, p: number) => percentile(sorted as unknown as number[], p).toFixed(1);
  return [
    String(count),
    target.name,
    `${into.complete}`,
    seconds.toFixed(1),
    (into.delays.length / seconds).toFixed(0),
    of(delays, 0.5),
    of(delays, 0.99),
    of(gaps, 0.5),
    of(gaps, 0.99),
    (((cpuSeconds(target.pids) - cpuBefore) * 1000) / count).toFixed(1),
    ((peakMb - idleMb) / count).toFixed(2),
    await eventLoopLag(target),
  ];
}

/** Milliseconds, as the process itself measured it. */
async function eventLoopLag(target: Target): Promise<string> {
  if (target.name !== 'Holdfast') return '';
  const { port, headers } = target.endpoint('instant');
  const { authorization = '' } = headers;
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { authorization } });
  const [, seconds] = /^nodejs_eventloop_lag_p99_seconds (\S+)/m.exec(await response.text()) ?? [];
  return seconds ? (Number(seconds) * 1000).toFixed(1) : '';
}

const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
try {
  const upstream = await startUpstream();
  const targets = [
    upstream,
    await startHoldfast({ upstream: upstream.port, dir }),
    await startLiteLLM(litellm, upstream.port, dir),
    await startPortkey(portkey, upstream.port),
  ];
  const head = [
    'streams',
    'target',
    'complete',
    'seconds',
    'tokens/s',
    'token late by p50 ms',
    'p99',
    'gap p50 ms',
    'p99',
  ];
  const columns = [...head, 'CPU ms/stream', 'MB/stream', 'event loop lag p99 ms'];
  console.log(`| ${columns.join(' | ')} |\n|${' --- |'.repeat(columns.length)}`);
  for (const target of targets) await measure(target, 20);
  for (const count of STREAMS) {
    for (const target of targets) console.log(`| ${(await measure(target, count)).join(' | ')} |`);
  }
} finally {
  await stopAll();
  rmSync(dir, { recursive: true, force: true });
}
