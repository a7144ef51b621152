import type { EmbeddedServer } from '../embedded/child.ts';
import { DataDir } from '../embedded/data-dir.ts';
import { availablePort } from '../embedded/ports.ts';
import { startPostgres } from '../embedded/postgres.ts';
import { startTemporal } from '../embedded/temporal.ts';
import { findTemporalBinary } from '../embedded/temporal-binary.ts';
import { installRuntime } from '../workers/runtime.ts';
import { printBanner } from './banner.ts';
import { createGateway } from './gateway.ts';
import { type Running, runUntilStopped } from './lifecycle.ts';
import { type Environment, loadEnvironment, workerVersionOf } from './options.ts';

/** `holdfast start`: everything in one go; parts that are not configured are supplied. */
export async function start(): Promise<never> {
  const environment = loadEnvironment();
  const { logger } = environment;
  installRuntime(logger);
  const running = await launch(environment);
  return runUntilStopped(running, logger);
}

async function launch({ env, settings, config, logger }: Environment): Promise<Running> {
  const port = await availablePort(settings.host, settings.port, 'GATEWAY_PORT');
  const dataDir = DataDir.open(settings.dataDir);
  const servers: EmbeddedServer[] = [];
  const stopServers = async () => {
    await Promise.all(servers.map((server) => server.stop()));
    dataDir.close();
  };
  try {
    const secrets = dataDir.secrets();
    const onProgress = (line: string) => process.stderr.write(`${line}\n`);
    const binary = settings.temporalAddress
      ? undefined
      : await findTemporalBinary({ configured: settings.temporalCliPath, env, onProgress });
    const ports = { grpc: settings.embeddedTemporalPort, ui: settings.embeddedTemporalUiPort };
    const keep = async <T extends EmbeddedServer>(starting: Promise<T>): Promise<T> => {
      const server = await starting;
      servers.push(server);
      return server;
    };
    const [temporal, postgres] = await settleAll([
      binary ? keep(startTemporal(binary, dataDir, ports)) : undefined,
      settings.databaseUrl ? undefined : keep(startPostgres(dataDir)),
    ] as const);

    const gateway = await createGateway({
      config,
      env,
      logger,
      databaseUrl: settings.databaseUrl ?? postgres?.address ?? '',
      databasePool: postgres ? 1 : settings.databasePool,
      oldSchema: 'migrate',
      redisUrl: settings.redisUrl,
      temporalAddress: settings.temporalAddress ?? temporal?.address ?? '',
      taskQueue: settings.temporalTaskQueue,
      // Beside an embedded server there is nobody to take runs over.
      workerVersion: settings.temporalAddress ? workerVersionOf(settings) : undefined,
      masterKey: settings.masterKey ?? secrets.masterKey,
      encryptionKey: settings.encryptionKey ?? secrets.encryptionKey,
      // What the directory's own key wrapped stays readable when another one is set.
      previousEncryptionKeys: [...settings.previousEncryptionKeys, secrets.encryptionKey],
      roles: { api: true, worker: true },
    });
    const stop = async () => {
      await gateway.stop();
      await stopServers();
    };
    try {
      await gateway.app?.listen({ host: settings.host, port });
    } catch (error) {
      await gateway.stop();
      throw error;
    }
    printBanner({
      url: `${config.gateway.server.tls ? 'https' : 'http'}://${reachable(settings.host)}:${port}`,
      masterKey: settings.masterKey ?? secrets.masterKey,
      temporalUi: temporal?.uiUrl ?? settings.temporalUiUrl,
      config,
    });
    const childEnded = new Promise<never>((_, reject) => {
      for (const server of servers) server.onExit((reason) => reject(new Error(reason)));
    });
    return { broken: Promise.race([gateway.broken, childEnded]), stop };
  } catch (error) {
    await stopServers();
    throw error;
  }
}

/** A host to call from this machine, where the gateway listens on every address. */
function reachable(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}

/** Waits for all, so that a failure of one leaves no other half-started; then throws it. */
async function settleAll<T extends readonly unknown[]>(tasks: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const results = await Promise.allSettled(tasks);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  return results.map((result) => (result.status === 'fulfilled' ? result.value : undefined)) as never;
}
