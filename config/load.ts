import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Catalogue } from '../domain/catalogue.ts';
import { type GatewayConfig, gatewaySchema, type ProviderConfig } from './gateway-schema.ts';
import { buildCatalogue, modelsSchema } from './models-schema.ts';
import type { Settings } from './settings.ts';
import { ConfigError, loadYaml } from './yaml-source.ts';

export interface LoadedConfig {
  readonly gateway: GatewayConfig;
  readonly catalogue: Catalogue;
  /** Providers that are switched on and have what they need, by name, in the order of the file. */
  readonly providers: ReadonlyMap<string, ProviderConfig>;
}

/** Loads gateway.yaml and the model catalogue. Throws `ConfigError`. */
export function loadConfig(settings: Settings, env: NodeJS.ProcessEnv): LoadedConfig {
  const gateway = loadYaml(settings.configFile ?? defaultFile('gateway.yaml'), gatewaySchema, env);
  const builtIn = loadYaml(defaultFile('models.yaml'), modelsSchema, env);
  const own = settings.modelsFile ? [loadYaml(settings.modelsFile, modelsSchema, env)] : [];
  const providers = configuredProviders(gateway);
  const wanted = gateway.default_provider;
  if (settings.configFile && wanted && !providers.has(wanted)) {
    throw new ConfigError(
      `${settings.configFile}: default_provider '${wanted}' is not usable: it is disabled or its key is empty.`,
    );
  }
  return { gateway, catalogue: buildCatalogue(builtIn, ...own), providers };
}

function configuredProviders(config: GatewayConfig): Map<string, ProviderConfig> {
  const usable = Object.entries(config.providers).filter(
    ([, provider]) => provider.enabled && hasCredentials(provider),
  );
  const providers = new Map(usable);
  if (providers.size === 0 && config.providers.demo === undefined) {
    providers.set('demo', {
      type: 'demo',
      enabled: true,
      timeout: 60,
      max_retries: 3,
      default_model: 'demo',
      privacy_zones: [],
    });
  }
  if (providers.size === 0) throw new ConfigError('No provider is configured: set a provider key or enable `demo`.');
  return providers;
}

function hasCredentials(provider: ProviderConfig): boolean {
  switch (provider.type) {
    case 'openai':
    case 'anthropic':
      return provider.api_key === undefined ? provider.base_url !== undefined : provider.api_key !== '';
    case 'bedrock':
      return provider.region !== undefined;
    case 'demo':
      return true;
  }
}

/** Files of `config/defaults/`, next to the sources and copied beside the compiled code. */
function defaultFile(name: string): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const beside = join(here, 'defaults', name);
  return existsSync(beside) ? beside : join(here, '..', '..', 'config', 'defaults', name);
}
