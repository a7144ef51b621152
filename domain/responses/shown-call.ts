import type { ItemEvent } from './item-events.ts';
import type { ItemStatus } from './output-items.ts';

export type CallType = 'function_call' | 'custom_tool_call';

/** What is known of a tool call, or added to it; `text` is a function's arguments or a custom tool's input. */
export interface CallPiece {
  readonly callId: string;
  readonly name: string;
  readonly text: string;
}

/** A tool call as far as it has been shown. */
export class ShownCall {
  readonly type: CallType;
  callId: string;
  name: string;
  text = '';
  open = true;
  private readonly id: string;
  private readonly outputIndex: number;

  constructor(type: CallType, id: string, outputIndex: number, { callId, name }: Omit<CallPiece, 'text'>) {
    this.type = type;
    this.id = id;
    this.outputIndex = outputIndex;
    this.callId = callId;
    this.name = name;
  }

  /**
   * Whether nothing can be missing. Providers may send the pieces of parallel calls in turns, and whoever sees the end
   * of a call executes it.
   */
  get whole(): boolean {
    if (this.type === 'custom_tool_call') return false;
    try {
      JSON.parse(this.text);
      return true;
    } catch {
      return false;
    }
  }

  added(): ItemEvent[] {
    return [{ type: 'response.output_item.added', output_index: this.outputIndex, item: this.item('in_progress') }];
  }

  append({ callId, name, text: delta = '' }: Partial<CallPiece>): ItemEvent[] {
    if (callId) this.callId = callId;
    if (name) this.name += name;
    // A call that was whole and still goes on is shown anew, once the result tells.
    if (!delta || !this.open) return [];
    this.text += delta;
    return this.type === 'function_call'
      ? [{ type: 'response.function_call_arguments.delta', ...this.place(), delta }]
      : [{ type: 'response.custom_tool_call_input.delta', ...this.place(), delta }];
  }

  close(status: ItemStatus): ItemEvent[] {
    this.open = false;
    const { name, text } = this;
    return [
      this.type === 'function_call'
        ? { type: 'response.function_call_arguments.done', ...this.place(), name, arguments: text }
        : { type: 'response.custom_tool_call_input.done', ...this.place(), input: text },
      { type: 'response.output_item.done', output_index: this.outputIndex, item: this.item(status) },
    ];
  }

  private place() {
    return { item_id: this.id, output_index: this.outputIndex };
  }

  private item(status: ItemStatus) {
    const { id, type, name, text } = this;
    const call = { id, call_id: this.callId, name, status };
    return type === 'function_call' ? { ...call, type, arguments: text } : { ...call, type, input: text };
  }
}
