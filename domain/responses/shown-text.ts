import type { ResponseOutputRefusal, ResponseOutputText } from 'openai/resources/responses/responses';
import type { ItemEvent } from './item-events.ts';
import type { ItemStatus, Logprob } from './output-items.ts';

export type TextKind = 'output_text' | 'refusal' | 'reasoning_text';

interface Part {
  readonly kind: TextKind;
  text: string;
  readonly logprobs: Logprob[];
}

/** A message or a reasoning item as far as it has been shown. Each of its parts follows the one before. */
export class ShownText {
  readonly type: 'message' | 'reasoning';
  readonly parts: Part[] = [];
  /** Text that another item follows is whole, as far as anybody can tell. */
  readonly whole = true;
  open = true;
  private readonly id: string;
  private readonly outputIndex: number;

  constructor(type: ShownText['type'], id: string, outputIndex: number) {
    this.type = type;
    this.id = id;
    this.outputIndex = outputIndex;
  }

  added(): ItemEvent[] {
    return [{ type: 'response.output_item.added', output_index: this.outputIndex, item: this.item('in_progress') }];
  }

  append(kind: TextKind, delta: string, logprobs: readonly Logprob[]): ItemEvent[] {
    const last = this.parts.at(-1);
    if (last?.kind === kind) return this.extend(last, delta, logprobs);
    const closing = last ? this.partDone(last) : [];
    const part: Part = { kind, text: '', logprobs: [] };
    this.parts.push(part);
    return [
      ...closing,
      { type: 'response.content_part.added', ...this.place(), part: toContent(part) },
      ...this.extend(part, delta, logprobs),
    ];
  }

  close(status: ItemStatus): ItemEvent[] {
    this.open = false;
    const last = this.parts.at(-1);
    return [
      ...(last ? this.partDone(last) : []),
      { type: 'response.output_item.done', output_index: this.outputIndex, item: this.item(status) },
    ];
  }

  private extend(part: Part, delta: string, logprobs: readonly Logprob[]): ItemEvent[] {
    part.text += delta;
    part.logprobs.push(...logprobs);
    switch (part.kind) {
      case 'output_text':
        return [{ type: 'response.output_text.delta', ...this.place(), delta, logprobs: [...logprobs] }];
      case 'refusal':
        return [{ type: 'response.refusal.delta', ...this.place(), delta }];
      case 'reasoning_text':
        return [{ type: 'response.reasoning_text.delta', ...this.place(), delta }];
    }
  }

  private partDone(part: Part): ItemEvent[] {
    const { text, logprobs } = part;
    const done: ItemEvent = { type: 'response.content_part.done', ...this.place(), part: toContent(part) };
    switch (part.kind) {
      case 'output_text':
        return [{ type: 'response.output_text.done', ...this.place(), text, logprobs: [...logprobs] }, done];
      case 'refusal':
        return [{ type: 'response.refusal.done', ...this.place(), refusal: text }, done];
      case 'reasoning_text':
        return [{ type: 'response.reasoning_text.done', ...this.place(), text }, done];
    }
  }

  /** Where the last part is. */
  private place() {
    return { item_id: this.id, output_index: this.outputIndex, content_index: this.parts.length - 1 };
  }

  private item(status: ItemStatus) {
    const { id, type } = this;
    return type === 'message'
      ? { id, type, role: 'assistant' as const, content: this.parts.flatMap(toMessageContent), status }
      : { id, type, summary: [], content: this.parts.map(({ text }) => toReasoningContent(text)), status };
  }
}

const toReasoningContent = (text: string) => ({ type: 'reasoning_text' as const, text });

function toMessageContent({ kind, text, logprobs }: Part): (ResponseOutputText | ResponseOutputRefusal)[] {
  if (kind === 'reasoning_text') return [];
  return kind === 'refusal'
    ? [{ type: kind, refusal: text }]
    : [{ type: kind, text, annotations: [], logprobs: [...logprobs] }];
}

const toContent = (part: Part) => toMessageContent(part)[0] ?? toReasoningContent(part.text);
