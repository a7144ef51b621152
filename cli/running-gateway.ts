import { ConfigError } from '../config/yaml-source.ts';
import { readSecrets } from '../embedded/data-dir.ts';
import type { Environment } from './options.ts';

/**
 * Posts to the API of the running gateway with the master key. Throws a `ConfigError` with what the gateway said against
 * it, or with what is missing to reach one.
 * @param url Address of the gateway, by default where the settings let one listen.
 */
export async function postToGateway<Answer>(
  { settings, config }: Environment,
  url: string | undefined,
  path: string,
  body: object,
): Promise<Answer> {
  const scheme = config.gateway.server.tls ? 'https' : 'http';
  const address = url ?? `${scheme}://${settings.host}:${settings.port}`;
  const masterKey = settings.masterKey ?? readSecrets(settings.dataDir)?.masterKey;
  if (!masterKey)
    throw new ConfigError('No master key: set GATEWAY_MASTER_KEY, or run where the gateway’s data directory is.');
  const response = await fetch(address + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${masterKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new ConfigError(`No gateway answers at ${address}. Start it first, or name its address with --url.`);
  });
  const answer = (await response.json()) as { error?: { message: string } };
  if (!response.ok) throw new ConfigError(answer.error?.message ?? `The gateway answered ${response.status}.`);
  return answer as Answer;
}
