import { loadClientConnectConfig } from '@temporalio/envconfig';
import proto from '@temporalio/proto';
import { NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import { ConfigError } from '../config/yaml-source.ts';
import { SEARCH_ATTRIBUTES } from '../workflows/search-attributes.ts';

export interface TemporalConnection {
  readonly connection: NativeConnection;
  readonly namespace: string;
  /** Whether the namespace knows the gateway's search attributes. */
  readonly searchable: boolean;
}

/**
 * Connects by Temporal's own environment variables (`TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS_…`).
 * Client and worker share the connection, as eager starts need.
 * @param address `host:port`
 */
export async function connectTemporal(
  address: string,
  env: NodeJS.ProcessEnv,
  logger: Logger,
): Promise<TemporalConnection> {
  const overrideEnvVars = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const config = loadClientConnectConfig({ disableFile: true, overrideEnvVars });
  const namespace = config.namespace ?? 'default';
  const options = { ...config.connectionOptions, address, grpcCompression: { codec: 'none' } } as const;
  const connection = await NativeConnection.connect(options).catch((error: Error) => {
    throw new ConfigError(`Temporal cannot be reached at ${address} (TEMPORAL_ADDRESS): ${error.message}`);
  });
  return { connection, namespace, searchable: await ensureSearchAttributes(connection, namespace, logger) };
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
    return true;
  } catch (error) {
    logger.warn(
      { err: error },
      `Search attributes cannot be registered; create ${wanted.join(', ')} as Keyword to find runs by them`,
    );
    return false;
  }
}
