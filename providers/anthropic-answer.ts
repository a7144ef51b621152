import type { Message as AnthropicMessage } from '@anthropic-ai/sdk/resources/messages';
import type { FinishReason, ModelAnswer, ToolCall } from '../domain/chat.ts';
import type { Usage } from '../domain/money.ts';

/** A message of the Messages API in the unified shape. */
export function toAnswer(message: AnthropicMessage): ModelAnswer {
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

export const refusalText = (details: { explanation?: string | null } | null | undefined): string =>
  details?.explanation || 'The model refused to answer.';

export function toFinishReason(native: string): FinishReason {
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

export interface PartialUsage {
  readonly input_tokens?: number | null;
  readonly output_tokens?: number | null;
  readonly cache_read_input_tokens?: number | null;
  readonly cache_creation_input_tokens?: number | null;
  readonly output_tokens_details?: { readonly thinking_tokens?: number } | null;
}

/** Anthropic counts cached tokens beside `input_tokens`, the unified usage inside them. */
export function toUsage(usage: PartialUsage): Usage {
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
