import { ConfigError } from '../config/yaml-source.ts';
import { loadEnvironment } from './options.ts';
import { postToGateway } from './running-gateway.ts';

export interface KeyOptions {
  readonly name: string;
  readonly team?: string;
  readonly project?: string;
  readonly user?: string;
  readonly rpm?: string;
  readonly tpm?: string;
  readonly costCap?: string;
  readonly defaultModel?: string;
  readonly models?: string;
  readonly roles?: string;
  readonly expires?: string;
  readonly url?: string;
}

interface MadeKey {
  readonly id: string;
  readonly key: string;
}

/** `holdfast keys create`: makes a virtual key at the running gateway and prints it. */
export async function createKey(options: KeyOptions): Promise<void> {
  const body = {
    name: options.name,
    team: options.team,
    project: options.project,
    user: options.user,
    ...((options.rpm || options.tpm) && {
      rateLimit: { rpm: toNumber('--rpm', options.rpm), tpm: toNumber('--tpm', options.tpm) },
    }),
    costCap: toNumber('--cost-cap', options.costCap),
    defaultModel: options.defaultModel,
    allowedModels: options.models?.split(','),
    roles: options.roles?.split(','),
    expiresAt: toInstant('--expires', options.expires),
  };
  const made = await postToGateway<MadeKey>(loadEnvironment(), options.url, '/config/virtual-keys', body);
  process.stderr.write(`Made ${made.id}. The key is shown this once:\n`);
  process.stdout.write(`${made.key}\n`);
}

function toNumber(option: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (Number.isFinite(number)) return number;
  throw new ConfigError(`${option}: '${value}' is not a number.`);
}

function toInstant(option: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const date = new Date(value);
  if (!Number.isNaN(date.getTime())) return date.toISOString();
  throw new ConfigError(`${option}: '${value}' is not a date.`);
}
