import type { ResponseStreamEvent } from 'openai/resources/responses/responses';

type Named<T extends string> = Extract<ResponseStreamEvent, { type: `response.${T}` }>;

/** Events about one output item. */
export type ItemStreamEvent = Named<
  | 'output_item.added'
  | 'output_item.done'
  | 'content_part.added'
  | 'content_part.done'
  | 'output_text.delta'
  | 'output_text.done'
  | 'refusal.delta'
  | 'refusal.done'
  | 'reasoning_text.delta'
  | 'reasoning_text.done'
  | 'function_call_arguments.delta'
  | 'function_call_arguments.done'
  | 'custom_tool_call_input.delta'
  | 'custom_tool_call_input.done'
>;

type Unnumbered<T> = T extends unknown ? Omit<T, 'sequence_number'> : never;

/** An event about one output item before its place in the stream is known. */
export type ItemEvent = Unnumbered<ItemStreamEvent>;
