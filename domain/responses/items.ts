/** What a response takes in and gives out, one after another: messages, reasoning, tool calls and their outputs. */
import type {
  ResponseCustomToolCallItem,
  ResponseFunctionToolCallItem,
  ResponseOutputMessage,
  ResponseReasoningItem,
} from 'openai/resources/responses/responses';
import { z } from 'zod';
import { assistantContent, systemContent, toolOutput, userContent } from './content.ts';

/** Items that came out of a response have an id and a status, and may be sent in again with them. */
const provenance = {
  id: z.string().nullish(),
  status: z.enum(['in_progress', 'completed', 'incomplete']).nullish(),
};

const message = { type: z.literal('message'), ...provenance };
const messageItem = z.discriminatedUnion('role', [
  z.looseObject({ ...message, role: z.literal('user'), content: userContent }),
  z.looseObject({ ...message, role: z.enum(['system', 'developer']), content: systemContent }),
  z.looseObject({ ...message, role: z.literal('assistant'), content: assistantContent }),
]);

const functionCall = z.looseObject({
  type: z.literal('function_call'),
  ...provenance,
  call_id: z.string().min(1),
  name: z.string().min(1),
  arguments: z.string(),
});
const functionCallOutput = z.looseObject({
  type: z.literal('function_call_output'),
  ...provenance,
  call_id: z.string().min(1),
  output: toolOutput,
});
const customToolCall = z.looseObject({
  type: z.literal('custom_tool_call'),
  ...provenance,
  call_id: z.string().min(1),
  name: z.string().min(1),
  input: z.string(),
});
const customToolCallOutput = z.looseObject({
  type: z.literal('custom_tool_call_output'),
  ...provenance,
  call_id: z.string().min(1),
  output: toolOutput,
});
const reasoning = z.looseObject({
  type: z.literal('reasoning'),
  ...provenance,
  content: z.array(z.looseObject({ type: z.literal('reasoning_text'), text: z.string() })).nullish(),
});

const typedItem = z.discriminatedUnion('type', [
  messageItem,
  functionCall,
  functionCallOutput,
  customToolCall,
  customToolCallOutput,
  reasoning,
]);

export const INPUT_ITEM_TYPES: ReadonlySet<string> = new Set([
  'message',
  'function_call',
  'function_call_output',
  'custom_tool_call',
  'custom_tool_call_output',
  'reasoning',
] satisfies InputItem['type'][]);

/** One item of `input`. OpenAI lets callers leave out the type of a message. */
export const inputItem = z.preprocess((item) => {
  const untyped = typeof item === 'object' && item !== null && 'role' in item && !('type' in item);
  return untyped ? { ...item, type: 'message' } : item;
}, typedItem);

export type InputItem = z.infer<typeof typedItem>;

/** An item that a response gives out. */
export type OutputItem =
  | ResponseOutputMessage
  | ResponseReasoningItem
  | ResponseFunctionToolCallItem
  | ResponseCustomToolCallItem;

/** An item of a conversation, sent in or given out. */
export type Item = InputItem | OutputItem;
