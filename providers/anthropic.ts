import Anthropic from '@anthropic-ai/sdk';
import type {
  Message as AnthropicMessage,
  MessageCreateParamsBase,
  RawMessageStreamEvent,
} from '@anthropic-ai/sdk/resources/messages';
import type { FinishReason, ModelAnswer, StreamEvent, ToolCall } from '../domain/chat.ts';
import type { Usage } from '../domain/money.ts';
import type { ProviderAdapter, ProviderCall } from './adapter.ts';
import { toAnthropicRequest, versionHeaders } from './anthropic-request.ts';
import { type Credential, secretsOf } from './credentials.ts';
import { toProviderError } from './errors.ts';
import type { AdapterIdentity } from './identity.ts';
import { anthropicLimits, reportingLimits } from './limit-headers.ts';

export interface AnthropicOptions {
  readonly apiKey: string | undefined;
  readonly baseUrl: string | undefined;
}

/** Anthropic's Messages API. */
export function createAnthropicAdapter(identity: AdapterIdentity, options: AnthropicOptions): ProviderAdapter {
  const client = new Anthropic({
    apiKey: options.apiKey || 'none',
    authToken: null,
    // The SDK sends a bearer token; proxies that predate it read this header, and Anthropic takes either.
    defaultHeaders: { 'x-api-key': options.apiKey || 'none' },
    baseURL: options.baseUrl ?? 'https://api.anthropic.com',
    maxRetries: 0,
    // The call's signal is the only clock. Giving one also stops the SDK from refusing long non-streaming calls.
    timeout: 24 * 60 * 60 * 1000,
  });
  const failure = (error: unknown, credential: Credential | undefined) =>
    toProviderError(error, identity.name, [options.apiKey ?? '', ...secretsOf(credential)]);

  return {
    ...identity,
    async complete(request, call) {
      const params = toAnthropicRequest(request, call);
      try {
        const created = client.messages.create(
          { ...params, stream: false },
          requestOptions(call, versionHeaders(request)),
        );
        return toAnswer(await reportingLimits(created, call, anthropicLimits));
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async *stream(request, call) {
      const params: MessageCreateParamsBase = toAnthropicRequest(request, call);
      try {
        const created = client.messages.create(
          { ...params, stream: true },
          requestOptions(call, versionHeaders(request)),
        );
        const events = await reportingLimits(created, call, anthropicLimits);
        const translate = createStreamTranslator();
        for await (const event of events) yield* translate(event);
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async probe(signal, credential) {
      try {
        await client.models.list({ limit: 1 }, requestOptions({ signal, credential }));
      } catch (error) {
        throw failure(error, credential);
      }
    },
  };
}

/** Headers rather than a client for each key: all of them share its connections. */
const requestOptions = (
  { signal, credential }: Pick<ProviderCall, 'signal' | 'credential'>,
  headers: Readonly<Record<string, string>> = {},
) => ({
  signal,
  headers: {
    ...headers,
    ...(credential &&
      'apiKey' in credential && {
        authorization: `Bearer ${credential.apiKey}`,
        'x-api-key': credential.apiKey,
      }),
  },
});

function toAnswer(message: AnthropicMessage): ModelAnswer {
  let text = '';
  let thinking = '';
  const toolCalls: ToolCall[] = [];
  for (const block of message.content) {
    if (block.type === 'text') text += block.text;
    else if (block.type === 'thinking') thinking += block.thinking;
    else if (block.type === 'tool_use') {
      toolCalls.push({
        id: block.id,
        type: 'function',
        function: { name: block.name, arguments: JSON.stringify(block.input ?? {}) },
      });
    }
  }
  const native = message.stop_reason ?? 'end_turn';
  return {
    model: message.model,
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: text || null,
          ...(native === 'refusal' && { refusal: refusalText(message.stop_details) }),
          ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
          ...(thinking && { reasoning_content: thinking }),
        },
        finish_reason: toFinishReason(native),
        native_finish_reason: native,
      },
    ],
    usage: toUsage(message.usage),
  };
}

/** Anthropic numbers content blocks, OpenAI numbers tool calls; the translator keeps count. */
function createStreamTranslator(): (event: RawMessageStreamEvent) => Generator<StreamEvent> {
  const toolIndexes = new Map<number, number>();
  const withArguments = new Set<number>();
  let usage: PartialUsage = {};

  return function* translate(event) {
    switch (event.type) {
      case 'message_start':
        usage = event.message.usage;
        yield { type: 'start', model: event.message.model };
        yield { type: 'usage', usage: toUsage(usage), final: false };
        break;
      case 'content_block_start': {
        if (event.content_block.type !== 'tool_use') break;
        const index = toolIndexes.size;
        toolIndexes.set(event.index, index);
        const { id, name } = event.content_block;
        yield toolDelta({ index, id, type: 'function', function: { name, arguments: '' } });
        break;
      }
      case 'content_block_delta': {
        const { delta } = event;
        if (delta.type === 'text_delta') yield textDelta({ content: delta.text });
        else if (delta.type === 'thinking_delta') yield textDelta({ reasoning_content: delta.thinking });
        else if (delta.type === 'input_json_delta' && delta.partial_json) {
          withArguments.add(event.index);
          const index = toolIndexes.get(event.index);
          if (index !== undefined) yield toolDelta({ index, function: { arguments: delta.partial_json } });
        }
        break;
      }
      case 'content_block_stop': {
        const index = toolIndexes.get(event.index);
        // A tool without parameters streams no JSON at all; OpenAI's clients parse the arguments.
        if (index !== undefined && !withArguments.has(event.index)) {
          yield toolDelta({ index, function: { arguments: '{}' } });
        }
        break;
      }
      case 'message_delta': {
        usage = { ...usage, ...withoutNulls(event.usage) };
        yield { type: 'usage', usage: toUsage(usage), final: true };
        const native = event.delta.stop_reason;
        if (!native) break;
        if (native === 'refusal') yield textDelta({ refusal: refusalText(event.delta.stop_details) });
        yield { type: 'finish', index: 0, reason: toFinishReason(native), native };
        break;
      }
      case 'message_stop':
        break;
    }
  };
}

type Delta = Extract<StreamEvent, { type: 'delta' }>['choices'][number]['delta'];

const textDelta = (delta: Delta): StreamEvent => ({ type: 'delta', choices: [{ index: 0, delta }] });
const toolDelta = (call: NonNullable<Delta['tool_calls']>[number]): StreamEvent => textDelta({ tool_calls: [call] });

const refusalText = (details: { explanation?: string | null } | null | undefined): string =>
  details?.explanation || 'The model refused to answer.';

function toFinishReason(native: string): FinishReason {
  switch (native) {
    case 'max_tokens':
    case 'model_context_window_exceeded':
      return 'length';
    case 'tool_use':
      return 'tool_calls';
    case 'refusal':
      return 'content_filter';
    default:
      return 'stop';
  }
}

interface PartialUsage {
  readonly input_tokens?: number | null;
  readonly output_tokens?: number | null;
  readonly cache_read_input_tokens?: number | null;
  readonly cache_creation_input_tokens?: number | null;
  readonly output_tokens_details?: { readonly thinking_tokens?: number } | null;
}

const withoutNulls = <T extends object>(value: T): Partial<T> =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null)) as Partial<T>;

/** Anthropic counts cached tokens beside `input_tokens`, the unified usage inside them. */
function toUsage(usage: PartialUsage): Usage {
  const cached = usage.cache_read_input_tokens ?? 0;
  const written = usage.cache_creation_input_tokens ?? 0;
  return {
    inputTokens: (usage.input_tokens ?? 0) + cached + written,
    cachedInputTokens: cached,
    cacheWriteTokens: written,
    outputTokens: usage.output_tokens ?? 0,
    reasoningTokens: usage.output_tokens_details?.thinking_tokens ?? 0,
    estimated: false,
  };
}
