import type { ResponseBody } from './body.ts';
import { itemId } from './ids.ts';
import type { InputItem } from './items.ts';

export type IdentifiedItem = InputItem & { readonly id: string };

/** A string is short for one message of the user. */
export const asItems = (input: ResponseBody['input']): readonly InputItem[] =>
  typeof input === 'string' ? [{ type: 'message', role: 'user', content: input }] : input;

type Message = Extract<InputItem, { type: 'message' }>;

/**
 * The input as the items that `input_items` lists and later responses build on: each has an id (the caller's, or one
 * that follows from the response's id and the item's place), and text stands in parts.
 */
export function inputItemsOf(input: ResponseBody['input'], responseId: string): readonly IdentifiedItem[] {
  return asItems(input).map((item, index) => {
    const whole = item.type === 'message' ? inParts(item) : item;
    return { ...whole, id: item.id ?? itemId(item.type, responseId, `in${index}`), status: item.status ?? 'completed' };
  });
}

function inParts(message: Message): Message {
  if (typeof message.content !== 'string') return message;
  const text = message.content;
  return message.role === 'assistant'
    ? { ...message, content: [{ type: 'output_text', text, annotations: [] }] }
    : { ...message, content: [{ type: 'input_text', text }] };
}
