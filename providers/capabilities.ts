import { CAPABILITIES, type Capability } from '../domain/capabilities.ts';
import type { ProviderType } from './adapter.ts';

const only = (...capabilities: Capability[]): ReadonlySet<Capability> => new Set(capabilities);

/** What each provider type's API can express; a model may have fewer (see the catalogue). */
export const PROVIDER_CAPABILITIES: Readonly<Record<ProviderType, ReadonlySet<Capability>>> = {
  openai: new Set(CAPABILITIES),
  anthropic: only('tools', 'parallel_tool_calls', 'vision', 'image_url', 'json_schema', 'reasoning'),
  // Converse takes image bytes or S3 objects, never a URL, and has no switch for parallel tool calls.
  bedrock: only('tools', 'vision', 'json_schema', 'reasoning'),
  demo: only(
    'tools',
    'parallel_tool_calls',
    'vision',
    'image_url',
    'json_mode',
    'json_schema',
    'reasoning',
    'multiple_choices',
    'seed',
    'penalties',
    'logit_bias',
    'temperature_above_1',
  ),
};
