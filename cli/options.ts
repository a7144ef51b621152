import type { WorkerDeploymentVersion } from '@temporalio/common';
import { type LoadedConfig, loadConfig } from '../config/load.ts';
import { loadSettings, type Settings } from '../config/settings.ts';
import { ConfigError } from '../config/yaml-source.ts';
import type { GatewayOptions } from './gateway.ts';
import { createLogger } from './logger.ts';
import { readVersion } from './version.ts';

export interface Environment {
  readonly env: NodeJS.ProcessEnv;
  readonly settings: Settings;
  readonly config: LoadedConfig;
  readonly logger: ReturnType<typeof createLogger>;
}

/** Settings, config and logger of a command, from the environment and `.env`. */
export function loadEnvironment(): Environment {
  try {
    process.loadEnvFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw new ConfigError(`.env: ${(error as Error).message}`);
  }
  const { env } = process;
  const settings = loadSettings(env);
  return { env, settings, config: loadConfig(settings, env), logger: createLogger(settings.logLevel) };
}

/** The options of a process that runs beside others: every shared part has to be configured. */
export function sharedOptions(
  { env, settings, config, logger }: Environment,
  roles: GatewayOptions['roles'],
): GatewayOptions {
  return {
    config,
    env,
    logger,
    roles,
    databaseUrl: required('DATABASE_URL', settings.databaseUrl, 'requests and money'),
    databasePool: settings.databasePool,
    oldSchema: 'refuse',
    redisUrl: required('REDIS_URL', settings.redisUrl, 'streams and rate limits'),
    temporalAddress: required('TEMPORAL_ADDRESS', settings.temporalAddress, 'workflows'),
    taskQueue: settings.temporalTaskQueue,
    workerVersion: workerVersionOf(settings),
    masterKey: roles.api ? required('GATEWAY_MASTER_KEY', settings.masterKey, 'the admin API') : '',
    encryptionKey: required('GATEWAY_ENCRYPTION_KEY', settings.encryptionKey, 'stored bodies (openssl rand -hex 32)'),
    previousEncryptionKeys: settings.previousEncryptionKeys,
  };
}

/** The version of its worker deployment that this process is of, if workers are versioned. */
export function workerVersionOf({ workerDeployment, workerBuild }: Settings): WorkerDeploymentVersion | undefined {
  if (!workerDeployment) return undefined;
  const buildId = workerBuild ? `${readVersion()}-${workerBuild}` : readVersion();
  return { deploymentName: workerDeployment, buildId };
}

function required(name: string, value: string | undefined, purpose: string): string {
  if (value) return value;
  throw new ConfigError(
    `${name} is not set: processes of one gateway share it for ${purpose}. 'holdfast start' needs none of this.`,
  );
}
