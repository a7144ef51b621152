import type { ResponseOutputRefusal, ResponseOutputText } from 'openai/resources/responses/responses';
import type { Choice, ModelResult, ResultMessage } from '../chat.ts';
import { itemId } from './ids.ts';
import type { OutputItem } from './items.ts';
import type { ResponseSeed } from './seed.ts';

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete';
export type Logprob = ResponseOutputText.Logprob;
export type IncompleteReason = 'max_output_tokens' | 'content_filter';

type ResultToolCall = NonNullable<ResultMessage['tool_calls']>[number];

/** A response has one answer. */
export const answerOf = (result: ModelResult): Choice | undefined => result.choices.find(({ index }) => index === 0);

/** Why an answer is not whole, or null. */
export function incompleteReasonOf(choice: Choice | undefined): IncompleteReason | null {
  if (choice?.finish_reason === 'length') return 'max_output_tokens';
  return choice?.finish_reason === 'content_filter' ? 'content_filter' : null;
}

/**
 * The items of an answer: its reasoning, its message, its tool calls.
 * @param firstNumber Number of the items shown before that the answer replaces; ids count on from there.
 * @default firstNumber 0
 */
export function outputItemsOf({ id }: Pick<ResponseSeed, 'id'>, result: ModelResult, firstNumber = 0): OutputItem[] {
  const choice = answerOf(result);
  if (!choice) return [];
  const { reasoning_content: thought, tool_calls: calls = [] } = choice.message;
  const content = messageParts(choice);
  const items: OutputItem[] = [
    ...(thought ? [reasoningItem(itemId('reasoning', id, firstNumber), thought)] : []),
    ...(content.length > 0 ? [messageItem(itemId('message', id, firstNumber), content)] : []),
    ...calls.map((call, n) => callItem(id, firstNumber + n, call)),
  ];
  const last = items.pop();
  if (!last) return [];
  return [...items, incompleteReasonOf(choice) ? { ...last, status: 'incomplete' } : last];
}

export const reasoningItem = (id: string, text: string) => ({
  id,
  type: 'reasoning' as const,
  summary: [],
  content: [{ type: 'reasoning_text' as const, text }],
  status: 'completed' as const,
});

const messageItem = (id: string, content: (ResponseOutputText | ResponseOutputRefusal)[]) => ({
  id,
  type: 'message' as const,
  role: 'assistant' as const,
  content,
  status: 'completed' as const,
});

function callItem(responseId: string, number: number, call: ResultToolCall): OutputItem {
  if (call.type === 'custom') {
    const { name, input } = call.custom;
    const id = itemId('custom_tool_call', responseId, number);
    return { id, type: 'custom_tool_call', call_id: call.id, name, input, status: 'completed' };
  }
  const { name, arguments: args } = call.function;
  const id = itemId('function_call', responseId, number);
  return { id, type: 'function_call', call_id: call.id, name, arguments: args, status: 'completed' };
}

function messageParts({ message, logprobs }: Choice): (ResponseOutputText | ResponseOutputRefusal)[] {
  const { content, refusal } = message;
  return [
    ...(content
      ? [{ type: 'output_text' as const, text: content, annotations: [], logprobs: toLogprobs(logprobs) }]
      : []),
    ...(refusal ? [{ type: 'refusal' as const, refusal }] : []),
  ];
}

interface ChatLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes?: number[] | null;
  readonly top_logprobs?: readonly ChatLogprob[];
}

/** Log probabilities of the text; chat completions have null where a token has no bytes. */
export function toLogprobs(logprobs: unknown): Logprob[] {
  const { content } = (logprobs ?? {}) as { readonly content?: readonly ChatLogprob[] | null };
  return (content ?? []).map(({ top_logprobs, ...token }) => ({
    ...withBytes(token),
    top_logprobs: (top_logprobs ?? []).map(withBytes),
  }));
}

const withBytes = ({ token, logprob, bytes }: ChatLogprob) => ({ token, logprob, bytes: bytes ?? [] });
