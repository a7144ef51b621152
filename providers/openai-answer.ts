import type { ChatCompletion, ChatCompletionChunk } from 'openai/resources/chat/completions';
import type { CompletionUsage } from 'openai/resources/completions';
import type { Choice, FinishReason, ModelAnswer, ResultMessage } from '../domain/chat.ts';
import type { Usage } from '../domain/money.ts';

/** A chat completion in the unified shape. */
export function toAnswer(completion: ChatCompletion): ModelAnswer {
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

/** Fields of the answer beyond the ones the gateway sets itself, such as `system_fingerprint` or `citations`. */
export function extraOf(completion: ChatCompletion | ChatCompletionChunk): Record<string, unknown> {
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

export function toFinishReason(reason: string): FinishReason {
  if (reason === 'length' || reason === 'content_filter') return reason;
  return reason === 'tool_calls' || reason === 'function_call' ? 'tool_calls' : 'stop';
}

export function toUsage(usage: CompletionUsage): Usage {
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
