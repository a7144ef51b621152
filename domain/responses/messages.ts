import type { AssistantMessage, Message, ToolCall } from '../chat.ts';
import { HoldfastError } from '../errors.ts';
import type { Item } from './items.ts';
import { toAssistantParts, toTextContent, toUserContent } from './message-content.ts';

type ItemOf<T extends Item['type']> = Extract<Item, { type: T }>;
type Call = ItemOf<'function_call'> | ItemOf<'custom_tool_call'>;
type CallOutput = ItemOf<'function_call_output'> | ItemOf<'custom_tool_call_output'>;

interface Placed<T> {
  readonly item: T;
  /** Its place in the conversation. */
  readonly at: number;
}

export interface ConversationItems {
  /** Items of the responses before, oldest first. */
  readonly history: readonly Item[];
  readonly input: readonly Item[];
  /** Whether the request has custom tools, so that only providers that know them will see it. */
  readonly customTools: boolean;
}

/**
 * Items as chat messages: what an assistant said, thought and called in a row is one message, and the outputs of its
 * calls follow it in the order of the calls. Throws `caller_invalid_request` where a call and its output do not meet.
 */
export function toMessages({ history, input, customTools }: ConversationItems): Message[] {
  const messages: Message[] = [];
  const placed = [...history, ...input].map((item, at): Placed<Item> => ({ item, at }));
  const outputs = new Set(placed.filter((entry): entry is Placed<CallOutput> => isOutput(entry.item)));
  let turn = new AssistantTurn();

  const outputOf = ({ item, at }: Placed<Call>): CallOutput => {
    // Some servers number the calls of each turn anew, so the next output of that id is meant.
    const output = [...outputs].find((candidate) => candidate.at > at && candidate.item.call_id === item.call_id);
    if (!output) throw invalid('input', `No tool output found for the call '${item.call_id}'.`);
    outputs.delete(output);
    return output.item;
  };
  const endTurn = () => {
    const message = turn.message(customTools);
    if (message) messages.push(message);
    for (const call of turn.calls) {
      const content = toTextContent(outputOf(call).output);
      messages.push({ role: 'tool', tool_call_id: call.item.call_id, content });
    }
    turn = new AssistantTurn();
  };

  for (const { item, at } of placed) {
    switch (item.type) {
      case 'reasoning':
        turn.reasoning.push(...(item.content ?? []).map(({ text }) => text));
        break;
      case 'function_call':
      case 'custom_tool_call':
        turn.calls.push({ item, at });
        break;
      case 'function_call_output':
      case 'custom_tool_call_output':
        endTurn();
        break;
      case 'message':
        if (item.role === 'assistant') {
          turn.parts.push(...toAssistantParts(item.content));
          break;
        }
        endTurn();
        if (item.role === 'user') messages.push({ role: 'user', content: toUserContent(item.content) });
        else messages.push({ role: item.role, content: toTextContent(item.content) });
    }
  }
  endTurn();

  const [stray] = outputs;
  if (stray) {
    const param = stray.at < history.length ? 'previous_response_id' : `input[${stray.at - history.length}].call_id`;
    throw invalid(param, `No tool call found for the output with call_id '${stray.item.call_id}'.`);
  }
  return messages;
}

const isOutput = (item: Item): item is CallOutput =>
  item.type === 'function_call_output' || item.type === 'custom_tool_call_output';

const invalid = (param: string, message: string) => new HoldfastError('caller_invalid_request', message, { param });

class AssistantTurn {
  readonly reasoning: string[] = [];
  readonly parts: ReturnType<typeof toAssistantParts> = [];
  readonly calls: Placed<Call>[] = [];

  /** undefined for a turn in which nothing was said or called: thoughts alone are no message. */
  message(customTools: boolean): AssistantMessage | undefined {
    if (this.parts.length === 0 && this.calls.length === 0) return undefined;
    const [first, ...others] = this.parts;
    const content = first?.type === 'text' && others.length === 0 ? first.text : this.parts;
    return {
      role: 'assistant',
      content: first ? content : null,
      ...(this.reasoning.length > 0 && { reasoning_content: this.reasoning.join('') }),
      ...(this.calls.length > 0 && { tool_calls: this.calls.map(({ item }) => toToolCall(item, customTools)) }),
    };
  }
}

function toToolCall(call: Call, customTools: boolean): ToolCall {
  const { call_id: id, name } = call;
  if (call.type === 'function_call') return { id, type: 'function', function: { name, arguments: call.arguments } };
  // A provider without custom tools may get an old call of one, once the tool is no longer offered.
  if (!customTools)
    return { id, type: 'function', function: { name, arguments: JSON.stringify({ input: call.input }) } };
  return { id, type: 'custom', custom: { name, input: call.input } } as unknown as ToolCall;
}
