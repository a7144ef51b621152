/** Results in the shape of OpenAI's chat completions, with the gateway's `metadata` beside it (seed 000). */
import type { ChoiceDelta, ModelResult, ResultMessage } from './chat.ts';
import type { Usage } from './money.ts';
import type { ResponseMetadata } from './stream-item.ts';

export interface CompletionIdentity {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
}

export interface CompletionUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number; readonly audio_tokens?: number };
  readonly completion_tokens_details: { readonly reasoning_tokens: number; readonly audio_tokens?: number };
}

export const toCompletionUsage = (usage: Usage): CompletionUsage => ({
  prompt_tokens: usage.inputTokens,
  completion_tokens: usage.outputTokens,
  total_tokens: usage.inputTokens + usage.outputTokens,
  prompt_tokens_details: {
    cached_tokens: usage.cachedInputTokens,
    ...(usage.audioInputTokens !== undefined && { audio_tokens: usage.audioInputTokens }),
  },
  completion_tokens_details: {
    reasoning_tokens: usage.reasoningTokens,
    ...(usage.audioOutputTokens !== undefined && { audio_tokens: usage.audioOutputTokens }),
  },
});

export const toChatCompletion = (
  { id, created }: CompletionIdentity,
  { model, choices, usage, extra }: ModelResult,
  metadata: ResponseMetadata,
) => ({
  ...extra,
  id,
  object: 'chat.completion' as const,
  created,
  model,
  choices: choices.map(({ index, message, finish_reason, logprobs }) => ({
    index,
    message: { ...message, refusal: message.refusal ?? null },
    logprobs: logprobs ?? null,
    finish_reason,
  })),
  usage: toCompletionUsage(usage),
  metadata,
});

/** Renders one stream, chunk by chunk. */
export class ChunkRenderer {
  private readonly opened = new Set<number>();
  private readonly identity: CompletionIdentity;
  private readonly includeUsage: boolean;

  constructor(identity: CompletionIdentity, includeUsage: boolean) {
    this.identity = identity;
    this.includeUsage = includeUsage;
  }

  delta(model: string, choices: readonly ChoiceDelta[]): object {
    return this.chunk(
      model,
      choices.map(({ index, delta, logprobs }) => ({
        index,
        delta: this.open(index, delta),
        logprobs: logprobs ?? null,
        finish_reason: null,
      })),
    );
  }

  /** The last chunks: what was not streamed, the finish reasons, and usage if the caller asked for it. */
  end(result: ModelResult, metadata: ResponseMetadata): readonly object[] {
    const unseen = result.choices.filter(({ index }) => !this.opened.has(index));
    const chunks: object[] = unseen.map((choice) =>
      this.delta(result.model, [{ index: choice.index, delta: wholeMessage(choice.message) }]),
    );
    const finish = result.choices.map(({ index, finish_reason }) => ({
      index,
      delta: {},
      logprobs: null,
      finish_reason,
    }));
    const last = this.chunk(result.model, finish, result.extra);
    if (!this.includeUsage) return [...chunks, { ...last, metadata }];
    const usage = toCompletionUsage(result.usage);
    return [...chunks, last, { ...this.chunk(result.model, []), usage, metadata }];
  }

  private open(index: number, delta: ChoiceDelta['delta']): object {
    if (this.opened.has(index)) return delta;
    this.opened.add(index);
    return { role: 'assistant', content: delta.tool_calls ? null : '', ...delta };
  }

  private chunk(model: string, choices: readonly object[], extra?: ModelResult['extra']): object {
    return {
      ...extra,
      ...this.identity,
      object: 'chat.completion.chunk',
      model,
      choices,
      ...(this.includeUsage && { usage: null }),
    };
  }
}

function wholeMessage({ content, refusal, reasoning_content, tool_calls }: ResultMessage): ChoiceDelta['delta'] {
  return {
    ...(content && { content }),
    ...(refusal && { refusal }),
    ...(reasoning_content && { reasoning_content }),
    ...(tool_calls && { tool_calls: tool_calls.map((call, index) => ({ index, ...call })) }),
  } as ChoiceDelta['delta'];
}
