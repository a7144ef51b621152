import type { GatewayConfig, ProviderConfig } from '../config/gateway-schema.ts';
import type { Catalogue } from '../domain/catalogue.ts';
import type { RoutingTable } from '../domain/route-plan.ts';
import type { ProviderAdapter } from './adapter.ts';
import { createAnthropicAdapter } from './anthropic.ts';
import { createBedrockAdapter } from './bedrock.ts';
import { STORED } from './credentials.ts';
import { createDemoAdapter } from './demo.ts';
import { identityOf } from './identity.ts';
import { createOpenAIAdapter } from './openai.ts';

export type ProviderRegistry = ReadonlyMap<string, ProviderAdapter>;

/** An adapter for every configured provider, by name. */
export const createProviders = (configs: ReadonlyMap<string, ProviderConfig>): ProviderRegistry =>
  new Map([...configs].map(([name, config]) => [name, createAdapter(name, config)]));

function createAdapter(name: string, config: ProviderConfig): ProviderAdapter {
  const identity = identityOf(name, config);
  switch (config.type) {
    case 'openai':
      return createOpenAIAdapter(identity, optionsOf(config));
    case 'anthropic':
      return createAnthropicAdapter(identity, optionsOf(config));
    case 'bedrock':
      return createBedrockAdapter(identity, { region: config.region ?? 'us-east-1', endpoint: config.endpoint });
    case 'demo':
      return createDemoAdapter(identity);
  }
}

const optionsOf = ({ api_key, base_url, batches }: Extract<ProviderConfig, { type: 'openai' | 'anthropic' }>) => ({
  apiKey: api_key === STORED ? undefined : api_key,
  baseUrl: base_url,
  batches,
});

/** What routing decides by, from the config and the providers that are on. */
export function buildRoutingTable(
  config: Pick<GatewayConfig, 'default_provider' | 'fallback' | 'models'>,
  catalogue: Catalogue,
  providers: ProviderRegistry,
): RoutingTable {
  const first = providers.keys().next().value ?? '';
  const wanted = config.default_provider;
  return {
    defaultProvider: wanted && providers.has(wanted) ? wanted : first,
    providers,
    aliases: new Map(Object.entries(config.models)),
    catalogue,
    fallback: {
      enabled: config.fallback.enabled,
      order: config.fallback.fallback_order,
      maxTargets: config.fallback.max_fallback_attempts,
      retryOriginal: config.fallback.retry_original,
    },
  };
}
