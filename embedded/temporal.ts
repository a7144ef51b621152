import { spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EmbeddedServer, superviseChild } from './child.ts';
import type { DataDir } from './data-dir.ts';
import { availablePort } from './ports.ts';

export interface EmbeddedTemporal extends EmbeddedServer {
  readonly uiUrl: string;
}

export interface TemporalPorts {
  /** 0 takes a free one. */
  readonly grpc: number;
  readonly ui: number;
}

/**
 * Measured on server 1.29.1: without the polling rates each hop of a workflow costs 50 ms; the matcher settings switch
 * on priority and fairness, which hold within a partition of a task queue: few workers empty one after the other. The
 * list of runs is written ten times a second, so that of a run that is over by then only its end is written: one record
 * instead of three, of which each costs a tenth of the run.
 */
export const DYNAMIC_CONFIG = [
  'history.transferProcessorMaxPollRPS=2000',
  'history.timerProcessorMaxPollRPS=2000',
  'history.visibilityProcessorMaxPollRPS=10',
  'system.enableActivityEagerExecution=true',
  'matching.useNewMatcher=true',
  'matching.enableFairness=true',
  'matching.numTaskqueueReadPartitions=1',
  'matching.numTaskqueueWritePartitions=1',
];

/**
 * Measured: half again as many requests a second as with a sync for every transaction. A killed process loses nothing;
 * a power failure may lose the last moments, which is why production has a Temporal server of its own.
 */
const SQLITE_PRAGMAS = ['journal_mode=wal', 'synchronous=1'];

const HOST = '127.0.0.1';
const START_TIMEOUT_MS = 30_000;

/** Starts Temporal's dev server with its Web UI. Everything it knows is in the data directory. */
export async function startTemporal(binary: string, dataDir: DataDir, ports: TemporalPorts): Promise<EmbeddedTemporal> {
  await dataDir.endOrphan('temporal');
  const hint = ` If that is a Temporal server, TEMPORAL_ADDRESS=${HOST}:${ports.grpc} uses it instead.`;
  const grpc = await availablePort(HOST, ports.grpc, 'GATEWAY_TEMPORAL_PORT', hint);
  const ui = await availablePort(HOST, ports.ui, 'GATEWAY_TEMPORAL_UI_PORT');

  // The mark tells a finished database from one whose making was interrupted; nothing was accepted with the latter.
  const database = dataDir.file('temporal.db');
  const mark = `${database}.initialised`;
  if (!existsSync(mark)) for (const suffix of ['', '-wal', '-shm']) rmSync(database + suffix, { force: true });

  const logFile = dataDir.file('temporal.log');
  const log = openSync(logFile, 'a', 0o600);
  const args = ['server', 'start-dev', '--ip', HOST, '--port', String(grpc), '--ui-port', String(ui)];
  const settings = [
    ...DYNAMIC_CONFIG.flatMap((setting) => ['--dynamic-config-value', setting]),
    ...SQLITE_PRAGMAS.flatMap((pragma) => ['--sqlite-pragma', pragma]),
  ];
  const child = spawn(binary, [...args, '--db-filename', database, '--log-level', 'error', ...settings], {
    stdio: ['ignore', log, log],
    // A Ctrl-C in a terminal reaches the whole process group; the gateway decides when Temporal stops.
    detached: true,
  });
  if (child.pid) dataDir.noteChild('temporal', child.pid);
  const server = superviseChild(child, { name: 'The embedded Temporal server', address: `${HOST}:${grpc}` });
  let failure: string | undefined;
  child.once('error', (error) => {
    failure = error.message;
  });
  server.onExit((reason) => {
    failure = reason;
  });
  const until = Date.now() + START_TIMEOUT_MS;
  while (!(await accepts(HOST, grpc))) {
    if (failure || Date.now() > until) {
      await server.stop();
      throw new Error(`The embedded Temporal server did not start (${failure ?? 'timeout'}):\n${endOf(logFile)}`);
    }
    await sleep(50);
  }
  writeFileSync(mark, '');
  return { ...server, uiUrl: `http://${HOST}:${ui}` };
}

/** What it said last, as its log is not always there to be looked at. */
const endOf = (logFile: string): string => readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-20).join('\n');

const accepts = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
