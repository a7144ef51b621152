import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { DataDir } from '../../embedded/data-dir.ts';
import { freePort } from '../../embedded/ports.ts';
import { startPostgres } from '../../embedded/postgres.ts';
import { startTemporal } from '../../embedded/temporal.ts';
import { findTemporalBinary } from '../../embedded/temporal-binary.ts';
import type { Services } from './inject.ts';

/** `HOLDFAST_TEST_REQUIRE=postgres,redis` turns what is missing into a failure, as CI wants it. */
const required = new Set((process.env.HOLDFAST_TEST_REQUIRE ?? '').split(',').filter(Boolean));

/** Starts what the integration tests share, once for each worker, and stops all of it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const onProgress = (line: string) => process.stderr.write(`${line}\n`);
  const binary = await findTemporalBinary({
    configured: process.env.TEMPORAL_CLI_PATH,
    env: process.env,
    onProgress,
  });
  const stops: Stops = [];
  const all = Array.from({ length: project.config.maxWorkers }, () => startServices(binary, stops));
  const services = await Promise.all(all);
  for (const name of ['postgres', 'redis'] as const) {
    if (services[0]?.[name]) continue;
    if (required.has(name)) throw new Error(`${name} is required and not installed`);
    onProgress(`No ${name} is installed here: its tests are skipped.`);
  }
  project.provide('services', services);
  project.provide('lender', await startLender(services.length, stops));

  return async () => {
    for (const stop of stops.reverse()) await stop();
  };
}

/** Tells each process that connects the index of services that nobody else has until that process ends. */
async function startLender(count: number, stops: Stops): Promise<string> {
  const free = Array.from({ length: count }, (_, index) => index);
  const waiting: ((index: number) => void)[] = [];
  const lender = createServer(async (socket) => {
    const gone = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve));
    const index = free.shift() ?? (await new Promise<number>((resolve) => waiting.push(resolve)));
    socket.resume().write(String(index));
    await gone;
    const next = waiting.shift();
    if (next) next(index);
    else free.push(index);
  });
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-lender-'));
  const path = join(dir, 'socket');
  await once(lender.listen(path), 'listening');
  stops.push(() => {
    lender.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return path;
}

async function startServices(binary: string, stops: Stops): Promise<Services> {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-test-'));
  const dataDir = DataDir.open(join(dir, 'data'));
  stops.push(() => {
    dataDir.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const temporal = await startTemporal(binary, dataDir, { grpc: 0, ui: 0 });
  stops.push(() => temporal.stop());
  const embedded = await startPostgres(dataDir);
  stops.push(() => embedded.stop());
  return {
    temporal: temporal.address,
    embeddedPostgres: embedded.address,
    postgres: await startRealPostgres(dir, stops),
    redis: await startRedis(stops),
  };
}

type Stops = (() => Promise<void> | void)[];

async function startRealPostgres(dir: string, stops: Stops): Promise<string | null> {
  const bin = findPostgres();
  if (!bin) return null;
  const data = join(dir, 'postgres');
  const port = await freePort();
  chmodSync(dir, 0o777);
  run(bin, 'initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync']);
  const settings = [
    '-c',
    `port=${port}`,
    '-c',
    `unix_socket_directories=${data}`,
    '-c',
    'fsync=off',
    '-c',
    'max_connections=200',
  ];
  const server = asPostgres(bin, 'postgres', ['-D', data, '-h', '127.0.0.1', ...settings]);
  const child = spawn(server.command, server.args, { stdio: 'ignore', cwd: '/' });
  stops.push(async () => {
    run(bin, 'pg_ctl', ['stop', '-D', data, '-m', 'immediate']);
    while (child.exitCode === null) await sleep(20);
  });
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  await until('Postgres', async () => {
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      await client.query('SELECT 1');
    } finally {
      await client.end().catch(() => {});
    }
  });
  return url;
}

/** Debian keeps the server's programs off the PATH. */
function findPostgres(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const places = [...versions.map((version) => join(debian, version, 'bin')), ...(process.env.PATH ?? '').split(':')];
  return places.find((place) => existsSync(join(place, 'initdb')) && existsSync(join(place, 'postgres')));
}

/** Postgres refuses to run as root. */
function asPostgres(bin: string, program: string, args: string[]): { command: string; args: string[] } {
  const command = join(bin, program);
  if (process.getuid?.() !== 0) return { command, args };
  return { command: 'setpriv', args: ['--reuid=postgres', '--regid=postgres', '--clear-groups', command, ...args] };
}

function run(bin: string, program: string, args: string[]): void {
  const { command, args: all } = asPostgres(bin, program, args);
  execFileSync(command, all, { stdio: ['ignore', 'ignore', 'inherit'], cwd: '/' });
}

async function startRedis(stops: Stops): Promise<string | null> {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' });
  } catch {
    return null;
  }
  const port = await freePort();
  const child = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    {
      stdio: 'ignore',
    },
  );
  stops.push(async () => {
    child.kill('SIGTERM');
    while (child.exitCode === null && child.signalCode === null) await sleep(20);
  });
  const url = `redis://127.0.0.1:${port}`;
  await until('Redis', async () => {
    const redis = new Redis(url, { lazyConnect: true, retryStrategy: () => null });
    redis.on('error', () => {});
    try {
      await redis.connect();
    } finally {
      redis.disconnect();
    }
  });
  return url;
}

/** Waits for a server to answer. */
async function until(name: string, probe: () => Promise<void>): Promise<void> {
  const giveUpAt = Date.now() + 30_000;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (Date.now() > giveUpAt) throw new Error(`${name} did not start`, { cause: error });
      await sleep(50);
    }
  }
}
