import OpenAI from 'openai';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParamsNonStreaming,
  ChatCompletionCreateParamsStreaming,
} from 'openai/resources/chat/completions';
import type { CompletionUsage } from 'openai/resources/completions';
import type {
  Choice,
  ChoiceDelta,
  FinishReason,
  ModelAnswer,
  ModelRequest,
  ResultMessage,
  StreamEvent,
} from '../domain/chat.ts';
import { outputLimit } from '../domain/chat.ts';
import type { Usage } from '../domain/money.ts';
import type { ProviderAdapter, ProviderCall } from './adapter.ts';
import { type Credential, secretsOf } from './credentials.ts';
import { toProviderError } from './errors.ts';
import type { AdapterIdentity } from './identity.ts';
import { openAILimits, reportingLimits } from './limit-headers.ts';

export interface OpenAIOptions {
  readonly apiKey: string | undefined;
  readonly baseUrl: string | undefined;
}

/** OpenAI and every server that speaks its chat completions API. */
export function createOpenAIAdapter(identity: AdapterIdentity, options: OpenAIOptions): ProviderAdapter {
  const client = new OpenAI({
    // Servers without authentication still need a value here, or the SDK looks for OPENAI_API_KEY.
    apiKey: options.apiKey || 'none',
    baseURL: options.baseUrl ?? 'https://api.openai.com/v1',
    organization: null,
    project: null,
    maxRetries: 0,
    // The call's signal is the only clock; this one must never fire first.
    timeout: 24 * 60 * 60 * 1000,
  });
  const failure = (error: unknown, credential: Credential | undefined) =>
    toProviderError(error, identity.name, [options.apiKey ?? '', ...secretsOf(credential)]);
  const official = new URL(client.baseURL).hostname.endsWith('openai.com');

  const body = (request: ModelRequest, { model, outputLimit: limit }: ProviderCall) => ({
    ...request,
    model,
    ...(limit !== undefined &&
      outputLimit(request) === undefined &&
      (official ? { max_completion_tokens: limit } : { max_tokens: limit })),
  });

  return {
    ...identity,
    async complete(request, call) {
      try {
        const params = body(request, call) as unknown as ChatCompletionCreateParamsNonStreaming;
        const created = client.chat.completions.create(params, requestOptions(call));
        return toAnswer(await reportingLimits(created, call, openAILimits));
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async *stream(request, call) {
      try {
        const params = {
          ...body(request, call),
          stream: true,
          stream_options: { include_usage: true },
        } as unknown as ChatCompletionCreateParamsStreaming;
        const created = client.chat.completions.create(params, requestOptions(call));
        const chunks = await reportingLimits(created, call, openAILimits);
        let started = false;
        for await (const chunk of chunks) {
          if (!started) yield { type: 'start', model: chunk.model, extra: extraOf(chunk) };
          started = true;
          yield* toEvents(chunk);
        }
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async probe(signal, credential) {
      try {
        await client.models.list(requestOptions({ signal, credential }));
      } catch (error) {
        throw failure(error, credential);
      }
    },
  };
}

/** A header rather than a client for each key: all of them share its connections. */
const requestOptions = ({ signal, credential }: Pick<ProviderCall, 'signal' | 'credential'>) => ({
  signal,
  ...(credential && 'apiKey' in credential && { headers: { authorization: `Bearer ${credential.apiKey}` } }),
});

function toAnswer(completion: ChatCompletion): ModelAnswer {
  return {
    model: completion.model,
    choices: completion.choices.map(
      (choice): Choice => ({
        index: choice.index,
        message: choice.message as unknown as ResultMessage,
        finish_reason: toFinishReason(choice.finish_reason),
        native_finish_reason: choice.finish_reason,
        ...(choice.logprobs && { logprobs: choice.logprobs }),
      }),
    ),
    usage: completion.usage ? toUsage(completion.usage) : null,
    extra: extraOf(completion),
  };
}

function* toEvents(chunk: ChatCompletionChunk): Generator<StreamEvent> {
  const choices = chunk.choices.flatMap(({ index, delta, logprobs }): ChoiceDelta[] => {
    const { content, refusal, tool_calls, reasoning_content, reasoning } = delta as Delta;
    const thought = reasoning_content ?? reasoning;
    const translated = {
      ...(content && { content }),
      ...(refusal && { refusal }),
      ...(thought && { reasoning_content: thought }),
      ...(tool_calls && { tool_calls }),
    };
    if (Object.keys(translated).length === 0 && !logprobs) return [];
    return [{ index, delta: translated, ...(logprobs && { logprobs }) } as ChoiceDelta];
  });
  if (choices.length > 0) yield { type: 'delta', choices };
  for (const { index, finish_reason } of chunk.choices) {
    if (finish_reason) {
      yield { type: 'finish', index, reason: toFinishReason(finish_reason), native: finish_reason };
    }
  }
  if (chunk.usage) yield { type: 'usage', usage: toUsage(chunk.usage), final: true };
}

/** DeepSeek and vLLM stream `reasoning_content`, OpenRouter and Ollama `reasoning`. */
type Delta = ChatCompletionChunk.Choice.Delta & {
  readonly reasoning_content?: string | null;
  readonly reasoning?: string | null;
};

/** Fields of the answer beyond the ones the gateway sets itself, such as `system_fingerprint` or `citations`. */
function extraOf(completion: ChatCompletion | ChatCompletionChunk): Record<string, unknown> {
  const {
    id: _id,
    object: _object,
    created: _created,
    model: _model,
    choices: _choices,
    usage: _usage,
    ...extra
  } = completion;
  return Object.fromEntries(Object.entries(extra).filter(([key, value]) => value != null && !key.startsWith('_')));
}

function toFinishReason(reason: string): FinishReason {
  if (reason === 'length' || reason === 'content_filter') return reason;
  return reason === 'tool_calls' || reason === 'function_call' ? 'tool_calls' : 'stop';
}

function toUsage(usage: CompletionUsage): Usage {
  const { audio_tokens: audioInput } = usage.prompt_tokens_details ?? {};
  const { audio_tokens: audioOutput } = usage.completion_tokens_details ?? {};
  const deepseekCacheHits = (usage as { prompt_cache_hit_tokens?: number }).prompt_cache_hit_tokens;
  return {
    inputTokens: usage.prompt_tokens,
    cachedInputTokens: usage.prompt_tokens_details?.cached_tokens ?? deepseekCacheHits ?? 0,
    cacheWriteTokens: 0,
    // xAI and Gemini leave reasoning out of completion_tokens but bill it as output; the total has it.
    outputTokens: Math.max(usage.completion_tokens, (usage.total_tokens ?? 0) - usage.prompt_tokens),
    reasoningTokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    ...(audioInput && { audioInputTokens: audioInput }),
    ...(audioOutput && { audioOutputTokens: audioOutput }),
    estimated: false,
  };
}
