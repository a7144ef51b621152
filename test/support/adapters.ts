import type { ProviderConfig } from '../../config/gateway-schema.ts';
import { providerSchema } from '../../config/gateway-schema.ts';
import type { ModelRequest, StreamEvent } from '../../domain/chat.ts';
import type { ProviderAdapter, ProviderCall } from '../../providers/adapter.ts';
import { createProviders } from '../../providers/registry.ts';

/** An adapter as the gateway would make it from `config`. */
export function adapterOf(config: Record<string, unknown>): ProviderAdapter {
  const parsed: ProviderConfig = providerSchema.parse(config);
  const adapter = createProviders(new Map([['it', parsed]])).get('it');
  if (!adapter) throw new Error('no adapter');
  return adapter;
}

export const call = (overrides: Partial<ProviderCall> = {}): ProviderCall => ({
  model: 'the-model',
  maxOutputTokens: 4_096,
  signal: new AbortController().signal,
  attempt: 1,
  ...overrides,
});

export const request = (overrides: Partial<ModelRequest> = {}): ModelRequest => ({
  messages: [{ role: 'user', content: 'hi' }],
  ...overrides,
});

export async function collect(events: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> {
  const collected: StreamEvent[] = [];
  for await (const event of events) collected.push(event);
  return collected;
}

/** A conversation that uses everything: instructions, an image, parallel tools and their results. */
export const fullConversation: ModelRequest['messages'] = [
  { role: 'system', content: 'Be brief.' },
  {
    role: 'user',
    content: [
      { type: 'text', text: 'What is this?' },
      { type: 'image_url', image_url: { url: 'data:image/png;base64,aGVsbG8=' } },
    ],
  },
  {
    role: 'assistant',
    content: 'Let me look.',
    tool_calls: [
      { id: 'call_1', type: 'function', function: { name: 'zoom', arguments: '{"factor":2}' } },
      { id: 'call_2', type: 'function', function: { name: 'identify', arguments: '' } },
    ],
  },
  { role: 'tool', tool_call_id: 'call_1', content: 'zoomed' },
  {
    role: 'tool',
    tool_call_id: 'call_2',
    content: [
      { type: 'text', text: 'a ' },
      { type: 'text', text: 'cat' },
    ],
  },
  { role: 'developer', content: 'Answer in English.' },
  { role: 'user', content: 'And now?' },
];

export const weatherTool = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'Weather of a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
