import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../embedded/ports.ts';
import type { Endpoint } from './load.ts';
import { start, untilAnswers } from './processes.ts';

const KEY = `sk-${randomBytes(32).toString('hex')}`;
const here = dirname(fileURLToPath(import.meta.url));

/** How fast the upstream behind a target answers: see `upstream.ts`. */
export const SPEEDS = ['instant', 'slow', 'paced'] as const;
export type Speed = (typeof SPEEDS)[number];

export interface Target {
  readonly name: string;
  /** Whose CPU time and memory count as its own. */
  readonly pids: readonly number[];
  /** Seconds from its start to its first answer. */
  readonly startSeconds: number;
  endpoint(speed: Speed, stream?: boolean): Endpoint;
}

const endpoint = (
  port: number,
  path: string,
  model: string,
  stream: boolean,
  headers: Record<string, string> = {},
): Endpoint => {
  const messages = [{ role: 'user', content: 'Hello!' }];
  const body = JSON.stringify({ model, messages, ...(stream && { stream: true }) });
  return {
    port,
    path,
    body,
    headers: {
      authorization: `Bearer ${KEY}`,
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      ...headers,
    },
  };
};

async function timed(start: () => Promise<void>): Promise<number> {
  const from = performance.now();
  await start();
  return (performance.now() - from) / 1000;
}

export async function startUpstream(): Promise<Target & { readonly port: number }> {
  const child = start(process.execPath, [join(here, 'upstream.js')], {});
  let port = 0;
  const startSeconds = await timed(async () => {
    port = await new Promise<number>((resolve) => child.stdout?.once('data', (line: Buffer) => resolve(Number(line))));
  });
  return {
    name: 'upstream direct',
    pids: [child.pid ?? 0],
    port,
    startSeconds,
    endpoint: (speed, stream = false) => endpoint(port, `/${speed}/v1/chat/completions`, 'gpt-5-mini', stream),
  };
}

export interface HoldfastOptions {
  readonly upstream: number;
  readonly dir: string;
  /** Further environment: parts that are configured instead of embedded. */
  readonly env?: Readonly<Record<string, string>>;
  /** Processes of those parts. */
  readonly pids?: readonly number[];
  readonly yaml?: string;
  readonly name?: string;
}

/** The all-in-one, with a fresh data directory in `dir` unless there is one. */
export async function startHoldfast(options: HoldfastOptions): Promise<Target> {
  const { upstream, dir, env = {}, pids = [], yaml = '', name = 'Holdfast' } = options;
  const port = await freePort();
  const config = join(dir, 'gateway.yaml');
  const providers = SPEEDS.map(
    (speed) => `  ${speed}: { type: openai, base_url: "http://127.0.0.1:${upstream}/${speed}/v1", api_key: x }\n`,
  );
  writeFileSync(config, `providers:\n${providers.join('')}${yaml}`);
  let pid = 0;
  const startSeconds = await timed(async () => {
    const child = start(process.execPath, [join(here, '..', '..', 'cli', 'main.js'), 'start'], {
      GATEWAY_CONFIG: config,
      GATEWAY_DATA_DIR: join(dir, 'data'),
      GATEWAY_PORT: String(port),
      GATEWAY_TEMPORAL_PORT: '0',
      GATEWAY_TEMPORAL_UI_PORT: '0',
      GATEWAY_MASTER_KEY: KEY,
      GATEWAY_LOG_LEVEL: 'warn',
      ...env,
    });
    child.stdout?.resume();
    pid = child.pid ?? 0;
    await untilAnswers(child, `http://127.0.0.1:${port}/health/ready`, 300);
  });
  return {
    name,
    pids: [pid, ...pids],
    startSeconds,
    endpoint: (speed, stream = false) => endpoint(port, '/v1/chat/completions', `${speed}/gpt-5-mini`, stream),
  };
}

/** One worker, no database. */
export async function startLiteLLM(executable: string, upstream: number, dir: string): Promise<Target> {
  const port = await freePort();
  const config = join(dir, 'litellm.yaml');
  const models = SPEEDS.map(
    (speed) => `  - model_name: ${speed}
    litellm_params: { model: openai/gpt-5-mini, api_base: "http://127.0.0.1:${upstream}/${speed}/v1", api_key: x }
`,
  );
  writeFileSync(config, `model_list:\n${models.join('')}litellm_settings: { telemetry: false }\n`);
  const args = ['--config', config, '--port', String(port), '--host', '127.0.0.1', '--num_workers', '1'];
  const env = { LITELLM_MASTER_KEY: KEY, LITELLM_LOG: 'ERROR', LITELLM_LOCAL_MODEL_COST_MAP: 'True' };
  let pid = 0;
  const startSeconds = await timed(async () => {
    const child = start(executable, args, env);
    child.stdout?.resume();
    pid = child.pid ?? 0;
    await untilAnswers(child, `http://127.0.0.1:${port}/health/liveliness`, 120);
  });
  return {
    name: 'LiteLLM',
    pids: [pid],
    startSeconds,
    endpoint: (speed, stream = false) => endpoint(port, '/v1/chat/completions', speed, stream),
  };
}

export async function startPortkey(script: string, upstream: number): Promise<Target> {
  const port = await freePort();
  let pid = 0;
  const startSeconds = await timed(async () => {
    const child = start(process.execPath, [script, `--port=${port}`, '--headless'], {});
    child.stdout?.resume();
    pid = child.pid ?? 0;
    await untilAnswers(child, `http://127.0.0.1:${port}/`, 60);
  });
  return {
    name: 'Portkey',
    pids: [pid],
    startSeconds,
    endpoint: (speed, stream = false) =>
      endpoint(port, '/v1/chat/completions', 'gpt-5-mini', stream, {
        'x-portkey-provider': 'openai',
        'x-portkey-custom-host': `http://127.0.0.1:${upstream}/${speed}/v1`,
      }),
  };
}
