import { resolve } from 'node:path';
import { z } from 'zod';
import { ConfigError } from './yaml-source.ts';

const port = z.coerce.number().int().min(0).max(65_535);
const text = z
  .string()
  .optional()
  .transform((value) => value || undefined);

/** A key-encryption key: itself in hex, or where AWS keeps it. */
const encryptionKey = z
  .string()
  .regex(
    /^([0-9a-f]{64}|aws-kms:[^\s,]+|aws-secretsmanager:[^\s,]+)$/i,
    'must be 32 bytes in hex (openssl rand -hex 32), aws-kms:<key id> or aws-secretsmanager:<secret id>',
  );

/** What Temporal takes as the name of a worker deployment. */
const deploymentName = z
  .string()
  .regex(/^(?!__)[^.:\s]{1,100}$/, 'must have no dot, colon or space, and at most 100 characters');

const environmentSchema = z.object({
  GATEWAY_HOST: z.string().default('127.0.0.1'),
  GATEWAY_PORT: port.default(8000),
  GATEWAY_LOG_LEVEL: z
    .string()
    .default('info')
    .transform((level) => level.toLowerCase())
    .pipe(z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])),
  GATEWAY_CONFIG: text,
  GATEWAY_MODELS: text,
  GATEWAY_DATA_DIR: z.string().default('.holdfast'),
  GATEWAY_MASTER_KEY: text.pipe(z.string().min(16, 'must have at least 16 characters').optional()),
  GATEWAY_ENCRYPTION_KEY: text.pipe(encryptionKey.optional()),
  GATEWAY_ENCRYPTION_KEYS_PREVIOUS: z
    .string()
    .default('')
    .transform((list) => list.split(',').flatMap((key) => key.trim() || []))
    .pipe(z.array(encryptionKey)),
  DATABASE_URL: text,
  DATABASE_POOL: z.coerce.number().int().min(1).max(1000).default(20),
  REDIS_URL: text,
  TEMPORAL_ADDRESS: text,
  TEMPORAL_TASK_QUEUE: z.string().default('holdfast'),
  GATEWAY_WORKER_DEPLOYMENT: text.pipe(deploymentName.optional()),
  GATEWAY_WORKER_BUILD: text.pipe(z.string().max(100).optional()),
  TEMPORAL_UI_URL: text,
  TEMPORAL_CLI_PATH: text,
  GATEWAY_TEMPORAL_PORT: port.default(7233),
  GATEWAY_TEMPORAL_UI_PORT: port.default(8233),
});

/** What the environment decides. Everything else is in gateway.yaml. */
export interface Settings {
  readonly host: string;
  readonly port: number;
  readonly logLevel: string;
  /** Path of gateway.yaml; absent for the built-in one. */
  readonly configFile: string | undefined;
  /** Path of a models file that adds to or replaces entries of the built-in catalogue. */
  readonly modelsFile: string | undefined;
  readonly dataDir: string;
  readonly masterKey: string | undefined;
  /** 32 bytes in hex, `aws-kms:<key id or ARN>` or `aws-secretsmanager:<secret id>`. */
  readonly encryptionKey: string | undefined;
  /** Earlier ones, for decrypting only. */
  readonly previousEncryptionKeys: readonly string[];
  readonly databaseUrl: string | undefined;
  readonly databasePool: number;
  readonly redisUrl: string | undefined;
  readonly temporalAddress: string | undefined;
  readonly temporalTaskQueue: string;
  /** The worker deployment whose versions finish the runs they began; absent for workers without versions. */
  readonly workerDeployment: string | undefined;
  /** Tells deploys of one version of the package apart. */
  readonly workerBuild: string | undefined;
  /** Where the Temporal Web UI of a configured server is, for links. */
  readonly temporalUiUrl: string | undefined;
  readonly temporalCliPath: string | undefined;
  /** Ports of the embedded Temporal dev server. */
  readonly embeddedTemporalPort: number;
  readonly embeddedTemporalUiPort: number;
}

/** Reads and checks the environment. Throws a `ConfigError` that names every wrong variable. */
export function loadSettings(env: NodeJS.ProcessEnv): Settings {
  const parsed = environmentSchema.safeParse(env);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new ConfigError(`Environment: ${problems.join('\nEnvironment: ')}`);
  }
  const values = parsed.data;
  return {
    host: values.GATEWAY_HOST,
    port: values.GATEWAY_PORT,
    logLevel: values.GATEWAY_LOG_LEVEL,
    configFile: values.GATEWAY_CONFIG && resolve(values.GATEWAY_CONFIG),
    modelsFile: values.GATEWAY_MODELS && resolve(values.GATEWAY_MODELS),
    dataDir: resolve(values.GATEWAY_DATA_DIR),
    masterKey: values.GATEWAY_MASTER_KEY,
    encryptionKey: values.GATEWAY_ENCRYPTION_KEY,
    previousEncryptionKeys: values.GATEWAY_ENCRYPTION_KEYS_PREVIOUS,
    databaseUrl: values.DATABASE_URL,
    databasePool: values.DATABASE_POOL,
    redisUrl: values.REDIS_URL,
    temporalAddress: values.TEMPORAL_ADDRESS,
    temporalTaskQueue: values.TEMPORAL_TASK_QUEUE,
    workerDeployment: values.GATEWAY_WORKER_DEPLOYMENT,
    workerBuild: values.GATEWAY_WORKER_BUILD,
    temporalUiUrl: values.TEMPORAL_UI_URL,
    temporalCliPath: values.TEMPORAL_CLI_PATH,
    embeddedTemporalPort: values.GATEWAY_TEMPORAL_PORT,
    embeddedTemporalUiPort: values.GATEWAY_TEMPORAL_UI_PORT,
  };
}
