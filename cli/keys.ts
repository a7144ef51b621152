import { ConfigError } from '../config/yaml-source.ts';
import { readSecrets } from '../embedded/data-dir.ts';
import { loadEnvironment } from './options.ts';

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

/** `holdfast keys create`: makes a virtual key at the running gateway and prints it. */
export async function createKey(options: KeyOptions): Promise<void> {
  const { settings, config } = loadEnvironment();
  const scheme = config.gateway.server.tls ? 'https' : 'http';
  const url = options.url ?? `${scheme}://${settings.host}:${settings.port}`;
  const masterKey = settings.masterKey ?? readSecrets(settings.dataDir)?.masterKey;
  if (!masterKey)
    throw new ConfigError('No master key: set GATEWAY_MASTER_KEY, or run where the gateway’s data directory is.');

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
  const response = await fetch(`${url}/config/virtual-keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${masterKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new ConfigError(`No gateway answers at ${url}. Start it first, or name its address with --url.`);
  });
  const answer = (await response.json()) as { key?: string; id?: string; error?: { message: string } };
  if (!response.ok) throw new ConfigError(answer.error?.message ?? `The gateway answered ${response.status}.`);
  process.stderr.write(`Made ${answer.id}. The key is shown this once:\n`);
  process.stdout.write(`${answer.key}\n`);
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
