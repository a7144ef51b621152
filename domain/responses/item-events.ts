import type { ResponseStreamEvent } from 'openai/resources/responses/responses';
import type { OutputItem } from './items.ts';

type Named<T extends string> = Extract<ResponseStreamEvent, { type: `response.${T}` }>;

type WithItem<T> = T extends unknown ? Omit<T, 'item'> & { readonly item: OutputItem } : never;

/** Events about one output item. */
export type ItemStreamEvent =
  | WithItem<Named<'output_item.added' | 'output_item.done'>>
  | Named<
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
