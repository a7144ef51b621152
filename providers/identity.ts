import type { ProviderConfig } from '../config/gateway-schema.ts';
import type { ProviderAdapter } from './adapter.ts';
import { PROVIDER_CAPABILITIES } from './capabilities.ts';
import { STORED } from './credentials.ts';

/** The part of an adapter that its config alone decides. */
export type AdapterIdentity = Omit<ProviderAdapter, 'complete' | 'stream' | 'probe' | 'batches'>;

const LABELS = {
  openai: 'OpenAIProvider',
  anthropic: 'AnthropicProvider',
  bedrock: 'BedrockProvider',
  demo: 'DemoProvider',
} as const;

export function identityOf(name: string, config: ProviderConfig): AdapterIdentity {
  return {
    name,
    type: config.type,
    label: LABELS[config.type],
    vendor: vendorOf(name, config),
    defaultModel: config.type === 'bedrock' ? config.model_id : config.default_model,
    capabilities: PROVIDER_CAPABILITIES[config.type],
    privacyZones: new Set(config.privacy_zones),
    ...(config.type === 'bedrock' && config.region && { region: config.region }),
    ...('api_key' in config && config.api_key === STORED && { storedKeysOnly: true }),
    timeoutMs: config.timeout * 1000,
    maxAttempts: config.max_retries,
  };
}

/** `type: openai` with another server's address serves that server's models, not OpenAI's. */
function vendorOf(name: string, config: ProviderConfig): string {
  if (config.vendor) return config.vendor;
  const elsewhere =
    config.type === 'openai' && config.base_url && !new URL(config.base_url).hostname.endsWith('openai.com');
  return elsewhere ? name : config.type;
}
