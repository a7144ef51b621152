import type { ModelRequest } from './chat.ts';

/** What a request may need beyond text in and text out. Providers and catalogue models declare which they have. */
export const CAPABILITIES = [
  'tools',
  'custom_tools',
  'parallel_tool_calls',
  'vision',
  'image_url',
  'audio_input',
  'file_input',
  'json_mode',
  'json_schema',
  'reasoning',
  'multiple_choices',
  'seed',
  'logprobs',
  'penalties',
  'logit_bias',
  'temperature_above_1',
  'openai_fields',
] as const;

export type Capability = (typeof CAPABILITIES)[number];

/** Capabilities that differ between models of one provider; the catalogue lists them per model. */
export const MODEL_CAPABILITIES: ReadonlySet<Capability> = new Set<Capability>([
  'tools',
  'vision',
  'audio_input',
  'json_schema',
  'reasoning',
]);

export interface Requirement {
  readonly capability: Capability;
  /** The request field that asks for it. */
  readonly param: string;
}

/** Fields every adapter understands or may leave out without changing the answer. */
const UNIVERSAL_FIELDS: ReadonlySet<string> = new Set([
  'messages',
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'n',
  'stop',
  'seed',
  'logprobs',
  'top_logprobs',
  'presence_penalty',
  'frequency_penalty',
  'logit_bias',
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'response_format',
  'reasoning_effort',
  // Routing, caching and bookkeeping hints of OpenAI's platform.
  'user',
  'store',
  'service_tier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'safety_identifier',
  'verbosity',
]);

/** Everything the request needs, each with the field to name when a provider lacks it. */
export function requirementsOf(request: ModelRequest): readonly Requirement[] {
  const needs: Requirement[] = [];
  const need = (capability: Capability, param: string, when: unknown) => {
    if (when) needs.push({ capability, param });
  };
  need('tools', 'tools', request.tools?.length);
  need(
    'custom_tools',
    'tools',
    request.tools?.some((tool) => tool.type === 'custom'),
  );
  need('custom_tools', 'tool_choice', isOpenAIToolChoice(request.tool_choice));
  need('parallel_tool_calls', 'parallel_tool_calls', request.parallel_tool_calls === false);
  need('json_mode', 'response_format', request.response_format?.type === 'json_object');
  need('json_schema', 'response_format', request.response_format?.type === 'json_schema');
  need('reasoning', 'reasoning_effort', request.reasoning_effort);
  need('multiple_choices', 'n', (request.n ?? 1) > 1);
  need('seed', 'seed', request.seed !== undefined);
  need('logprobs', 'logprobs', request.logprobs || request.top_logprobs);
  need('penalties', 'presence_penalty', request.presence_penalty);
  need('penalties', 'frequency_penalty', request.frequency_penalty);
  need('logit_bias', 'logit_bias', request.logit_bias && Object.keys(request.logit_bias).length > 0);
  need('temperature_above_1', 'temperature', (request.temperature ?? 0) > 1);
  request.messages.forEach((message, m) => {
    if (message.role !== 'user' || typeof message.content === 'string') return;
    message.content.forEach((part, p) => {
      const param = `messages[${m}].content[${p}]`;
      need('vision', param, part.type === 'image_url');
      need('image_url', param, part.type === 'image_url' && !part.image_url.url.startsWith('data:'));
      need('audio_input', param, part.type === 'input_audio');
      need('file_input', param, part.type === 'file');
    });
  });
  for (const field of Object.keys(request)) need('openai_fields', field, !UNIVERSAL_FIELDS.has(field));
  return needs;
}

const isOpenAIToolChoice = (choice: ModelRequest['tool_choice']): boolean =>
  typeof choice === 'object' && choice.type !== 'function';
