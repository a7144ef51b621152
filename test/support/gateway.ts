import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { type Logger, pino } from 'pino';
import { createGateway, type Gateway, type GatewayOptions } from '../../cli/gateway.ts';
import { loadConfig } from '../../config/load.ts';
import { loadSettings } from '../../config/settings.ts';
import { installRuntime } from '../../workers/runtime.ts';
import { ENCRYPTION_KEY } from './databases.ts';
import { inject } from './inject.ts';

export const MASTER_KEY = 'sk-master-for-tests';

// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever was answered
export type Json = any;

/** Which parts a gateway under test stands on. */
export type Parts = 'embedded' | 'configured';

export interface TestGateway {
  readonly url: string;
  readonly gateway: Gateway;
  readonly taskQueue: string;
  /** The official client, with the master key and without retries of its own. */
  readonly client: OpenAI;
  clientWith(key: string): OpenAI;
  /** Calls the API with the master key. */
  fetch(path: string, init?: RequestInit & { key?: string; json?: unknown }): Promise<Response>;
  json(path: string, init?: RequestInit & { key?: string; json?: unknown }): Promise<Json>;
  stop(): Promise<void>;
}

const quiet = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' });
let runtimeInstalled = false;

/** Sends the SDK's log lines to the tests' logger. */
export function silenceRuntime(): void {
  logRuntimeTo(quiet);
}

function logRuntimeTo(logger: Logger): void {
  if (!runtimeInstalled) installRuntime(logger);
  runtimeInstalled = true;
}

/** A whole gateway in this process, on real Temporal, Postgres (and Redis, where `configured`). */
export async function startGateway(
  yaml: string,
  parts: Parts = 'embedded',
  overrides: Partial<GatewayOptions> = {},
): Promise<TestGateway> {
  const { logger = quiet, redisUrl = inject('redis') ?? undefined } = overrides;
  logRuntimeTo(logger);
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-gateway-'));
  const configFile = join(dir, 'gateway.yaml');
  writeFileSync(configFile, yaml);
  const env = { GATEWAY_CONFIG: configFile };
  const config = loadConfig(loadSettings(env), env);
  rmSync(dir, { recursive: true });
  // A schedule would outlive the gateway, whose task queue nobody serves any more.
  config.gateway.budgets.sweep_interval = 0;

  const { taskQueue = `test-${crypto.randomUUID()}` } = overrides;
  const real = parts === 'configured' ? inject('postgres') : null;
  const gateway = await createGateway({
    config,
    env,
    logger,
    databaseUrl: real ?? inject('embeddedPostgres'),
    databasePool: real ? 10 : 1,
    oldSchema: 'migrate',
    temporalAddress: inject('temporal'),
    taskQueue,
    workerVersion: undefined,
    masterKey: MASTER_KEY,
    encryptionKey: ENCRYPTION_KEY,
    previousEncryptionKeys: [],
    roles: { api: true, worker: true },
    ...overrides,
    redisUrl: parts === 'configured' ? redisUrl : undefined,
  });
  await gateway.app?.listen({ host: '127.0.0.1', port: 0 });
  const address = gateway.app?.server.address() as AddressInfo | undefined;
  const url = `http://127.0.0.1:${address?.port}`;
  const clientWith = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
  const call: TestGateway['fetch'] = (path, { key = MASTER_KEY, json, ...init } = {}) =>
    fetch(url + path, {
      ...(json !== undefined && { method: 'POST', body: JSON.stringify(json) }),
      ...init,
      headers: {
        authorization: `Bearer ${key}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...init.headers,
      },
    });
  return {
    url,
    gateway,
    taskQueue,
    client: clientWith(MASTER_KEY),
    clientWith,
    fetch: call,
    json: async (path, init) => (await call(path, init)).json() as Promise<Json>,
    stop: () => gateway.stop(),
  };
}

/** Waits until `ask` gives something. */
export async function eventually<T>(ask: () => Promise<T | null | undefined | false>, timeoutMs = 20_000): Promise<T> {
  const giveUpAt = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false) return answer;
    if (Date.now() > giveUpAt) throw new Error('It did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
