import type { LoadedConfig } from '../config/load.ts';
import { identityOf } from '../providers/identity.ts';

export interface BannerFacts {
  readonly url: string;
  readonly masterKey: string;
  readonly temporalUi: string | undefined;
  readonly config: LoadedConfig;
}

/** What a newcomer needs, on stderr, so that stdout stays the log. */
export function printBanner({ url, masterKey, temporalUi, config }: BannerFacts): void {
  const model = exampleModel(config);
  const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello!' }] });
  process.stderr.write(`
  Holdfast is running.

    API          ${url}        (docs at ${url}/docs)
    Master key   ${masterKey}
    Temporal UI  ${temporalUi ?? 'of your own server'}
    Providers    ${[...config.providers.keys()].join(', ')}

  Try it:

    curl ${url}/v1/chat/completions \\
      -H 'Authorization: Bearer ${masterKey}' \\
      -H 'Content-Type: application/json' \\
      -d '${body}'

`);
}

/** A name that a request can use with this config: an alias one of whose providers is on, else a default model. */
export function exampleModel({ gateway, providers }: LoadedConfig): string {
  const aliases = Object.entries(gateway.models);
  const alias = aliases.find(([, targets]) => targets.some(({ provider }) => providers.has(provider)));
  const defaults = [...providers].map(([name, config]) => identityOf(name, config).defaultModel);
  return alias?.[0] ?? defaults.find((model) => model !== undefined) ?? 'PROVIDER/MODEL';
}
