import { setTimeout as sleep } from 'node:timers/promises';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import proto from '@temporalio/proto';
import { NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import { ConfigError } from '../config/yaml-source.ts';
import { SEARCH_ATTRIBUTES } from '../workflows/search-attributes.ts';

export interface OpenConnection {
  readonly connection: NativeConnection;
  readonly namespace: string;
}

export interface TemporalConnection extends OpenConnection {
  /** Whether the namespace knows the gateway's search attributes. */
  readonly searchable: boolean;
}

/**
 * Connects a gateway process. Client and worker share the connection, as eager starts need.
 * @param address `host:port`
 */
export async function connectTemporal(
  address: string,
  env: NodeJS.ProcessEnv,
  logger: Logger,
): Promise<TemporalConnection> {
  const { connection, namespace } = await openConnection(address, env);
  return { connection, namespace, searchable: await ensureSearchAttributes(connection, namespace, logger) };
}

/**
 * Connects by Temporal's own environment variables (`TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS_…`), and
 * changes nothing there. Throws `ConfigError`.
 * @param address `host:port`
 */
export async function openConnection(address: string, env: NodeJS.ProcessEnv): Promise<OpenConnection> {
  const overrideEnvVars = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const config = loadClientConnectConfig({ disableFile: true, overrideEnvVars });
  const namespace = config.namespace ?? 'default';
  const options = { ...config.connectionOptions, address, grpcCompression: { codec: 'none' } } as const;
  const connection = await NativeConnection.connect(options).catch((error: Error) => {
    throw new ConfigError(`Temporal cannot be reached at ${address} (TEMPORAL_ADDRESS): ${error.message}`);
  });
  return { connection, namespace };
}

/** Registers what is missing. Without the permission (Temporal Cloud), runs are just not searchable by it. */
async function ensureSearchAttributes(
  connection: NativeConnection,
  namespace: string,
  logger: Logger,
): Promise<boolean> {
  const wanted = Object.values(SEARCH_ATTRIBUTES).map((attribute) => attribute.name);
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    const missing = wanted.filter((name) => !(name in (customAttributes ?? {})));
    if (missing.length === 0) return true;
    const keyword = proto.temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map((name) => [name, keyword])),
    });
    return await untilKnown(connection, namespace, missing, logger);
  } catch (error) {
    logger.warn(
      { err: error },
      `Search attributes cannot be registered; create ${wanted.join(', ')} as Keyword to find runs by them`,
    );
    return false;
  }
}

/** Milliseconds within which every part of a server has looked at its search attributes again; by default it is a minute. */
const CACHE_PATIENCE_MS = 90_000;
const LOOK_MS = 1_000;

/** Until then a server refuses runs and schedules that have new search attributes. False if it takes too long. */
async function untilKnown(
  { workflowService }: NativeConnection,
  namespace: string,
  names: readonly string[],
  logger: Logger,
): Promise<boolean> {
  const query = names.map((name) => `${name} = 'none'`).join(' OR ');
  const giveUpAt = Date.now() + CACHE_PATIENCE_MS;
  for (let told = false; ; told = true) {
    try {
      await workflowService.countWorkflowExecutions({ namespace, query });
      return true;
    } catch (error) {
      if (Date.now() > giveUpAt) throw error;
      if (!told) logger.warn('Waiting for Temporal to know the new search attributes, for a minute at most');
      await sleep(LOOK_MS);
    }
  }
}
