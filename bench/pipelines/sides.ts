import { join } from 'node:path';
import { freePort } from '../../embedded/ports.ts';
import { start } from '../overhead/processes.ts';
import { startHoldfast } from '../overhead/targets.ts';
import { FIVE_STEPS, registerAgents } from './agents.ts';
import { Gateway } from './gateway.ts';
import { send } from './http.ts';

/** Somebody who runs pipelines. */
export interface Side {
  readonly name: string;
  /** Its own processes, without Postgres. */
  readonly pids: readonly number[];
  /** Its database on the Postgres of both. */
  readonly database: string;
  /** Further files that it keeps what it did in. */
  readonly files: readonly string[];
  /** Runs five steps in a row. Returns the run's id. Rejects unless it completed. */
  run(): Promise<string>;
}

export interface Surroundings {
  /** `postgres://` URL of the server, without a database. */
  readonly server: string;
  /** Port of the upstream. */
  readonly upstream: number;
}

const INPUT = 'Hello!';

export interface HoldfastSide extends Side {
  readonly gateway: Gateway;
  readonly temporalPort: number;
}

/** The all-in-one on a configured Postgres and Redis, with the Temporal dev server that it brings. */
export async function startHoldfastSide(
  { server, upstream }: Surroundings,
  dir: string,
  redis: { readonly url: string; readonly pid: number },
): Promise<HoldfastSide> {
  const database = 'holdfast';
  const temporalPort = await freePort();
  const env = {
    DATABASE_URL: `${server}/${database}`,
    REDIS_URL: redis.url,
    GATEWAY_TEMPORAL_PORT: String(temporalPort),
  };
  const yaml = 'agents: { allowed_private_hosts: [127.0.0.1] }\n';
  const { name, pids, endpoint } = await startHoldfast({ upstream, dir, env, pids: [redis.pid], yaml });
  const gateway = new Gateway(endpoint('instant'));
  await registerAgents(gateway, upstream);
  const temporal = join(dir, 'data', 'temporal.db');
  const run = () => gateway.run(FIVE_STEPS.workflow, INPUT);
  return { name, pids, database, files: [temporal, `${temporal}-wal`], run, gateway, temporalPort };
}

export interface LangGraph {
  readonly pids: readonly number[];
  readonly modes: readonly Side[];
}

/** One process, in two durability modes: `sync` has each step stored before the next begins, `async` is the default. */
export async function startLangGraph({ server, upstream }: Surroundings, script: string): Promise<LangGraph> {
  const database = 'langgraph';
  const child = start(
    process.execPath,
    [script, `${server}/${database}`, `http://127.0.0.1:${upstream}/instant/v1`],
    {},
  );
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout?.once('data', (line: Buffer) => resolve(Number(line)));
    child.once('exit', () => reject(new Error('LangGraph did not start.')));
  });
  const pids = [child.pid ?? 0];
  const modes = ['sync', 'async'].map((mode) => ({
    name: `LangGraph, ${mode}`,
    pids,
    database,
    files: [],
    run: () => send({ port, path: `/${mode}`, json: { input: INPUT } }),
  }));
  return { pids, modes };
}
