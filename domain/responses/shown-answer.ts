import type { Choice, ChoiceDelta, ResultMessage, ToolCallDelta } from '../chat.ts';
import { itemId } from './ids.ts';
import type { ItemEvent } from './item-events.ts';
import { type ItemStatus, type Logprob, toLogprobs } from './output-items.ts';
import { type CallPiece, type CallType, ShownCall } from './shown-call.ts';
import { ShownText, type TextKind } from './shown-text.ts';

type ResultToolCall = NonNullable<ResultMessage['tool_calls']>[number];

/** The answer of one attempt as far as its output items have been shown. */
export class ShownAnswer {
  private readonly responseId: string;
  /** Items shown before, by attempts that died. */
  readonly before: number;
  private readonly items: (ShownText | ShownCall)[] = [];
  /** By the number that deltas have for them. */
  private readonly calls = new Map<number, ShownCall>();

  constructor(responseId: string, before: number) {
    this.responseId = responseId;
    this.before = before;
  }

  /** Items shown, by this attempt and those before. */
  get count(): number {
    return this.before + this.items.length;
  }

  get empty(): boolean {
    return this.items.length === 0;
  }

  delta({ delta, logprobs }: ChoiceDelta): ItemEvent[] {
    return [
      ...this.text('reasoning_text', delta.reasoning_content),
      ...this.text('output_text', delta.content, toLogprobs(logprobs)),
      ...this.text('refusal', delta.refusal),
      ...(delta.tool_calls ?? []).flatMap((call) => this.callDelta(call)),
    ];
  }

  /** Whether all that was shown is the beginning of this answer, and the answer can be shown by going on. */
  beginsLike({ message }: Choice): boolean {
    const texts = TEXTS.every(([kind, textOf]) => textOf(message).startsWith(this.shownText(kind)));
    const calls = this.shownCalls().every((shown, n) => {
      const call = message.tool_calls?.[n];
      if (!call || typeOf(call) !== shown.type) return false;
      const { callId, name, text } = pieceOf(call);
      const fits = shown.open ? text.startsWith(shown.text) : text === shown.text;
      return fits && callId === shown.callId && name === shown.name;
    });
    return texts && calls;
  }

  /** What of the answer has not been shown. */
  rest({ message, logprobs }: Choice): ItemEvent[] {
    const texts = TEXTS.flatMap(([kind, textOf]) => {
      const rest = textOf(message).slice(this.shownText(kind).length);
      const unseen = kind === 'output_text' ? toLogprobs(logprobs).slice(this.shownLogprobs()) : [];
      return this.text(kind, rest, unseen);
    });
    const shown = this.shownCalls();
    const calls = (message.tool_calls ?? []).flatMap((call, n) => {
      const piece = pieceOf(call);
      const known = shown[n];
      if (known) return known.append({ text: piece.text.slice(known.text.length) });
      const opened = this.openCall(typeOf(call), piece);
      return [...opened.events, ...opened.call.append({ text: piece.text })];
    });
    return [...texts, ...calls];
  }

  /** Ends what is open: the attempt is over. */
  finish(lastStatus: ItemStatus): ItemEvent[] {
    const last = this.items.at(-1);
    return this.open().flatMap((item) => item.close(item === last ? lastStatus : 'completed'));
  }

  /** Ends what is open: the attempt died. */
  abandon(): ItemEvent[] {
    return this.open().flatMap((item) => item.close('incomplete'));
  }

  private text(kind: TextKind, delta: string | undefined, logprobs: readonly Logprob[] = []): ItemEvent[] {
    if (!delta) return [];
    const type = kind === 'reasoning_text' ? 'reasoning' : 'message';
    const last = this.items.findLast((item): item is ShownText => item.open && item.type === type);
    if (last) return last.append(kind, delta, logprobs);
    const item = new ShownText(type, this.nextId(type), this.count);
    return [...this.begin(item), ...item.append(kind, delta, logprobs)];
  }

  private callDelta({ index, id: callId = '', function: called, custom }: ToolCallDelta): ItemEvent[] {
    const name = called?.name ?? custom?.name ?? '';
    const text = called?.arguments ?? custom?.input ?? '';
    const known = this.calls.get(index);
    if (known) return known.append({ callId, name, text });
    const { call, events } = this.openCall(custom ? 'custom_tool_call' : 'function_call', { callId, name });
    this.calls.set(index, call);
    return [...events, ...call.append({ text })];
  }

  private openCall(type: CallType, piece: Omit<CallPiece, 'text'>) {
    const call = new ShownCall(type, this.nextId(type), this.count, piece);
    return { call, events: this.begin(call) };
  }

  /** Opening an item closes those before it. */
  private begin(item: ShownText | ShownCall): ItemEvent[] {
    const closing = this.open().flatMap((before) => (before.whole ? before.close('completed') : []));
    this.items.push(item);
    return [...closing, ...item.added()];
  }

  private nextId(type: ShownText['type'] | CallType): string {
    const calls = type === 'function_call' || type === 'custom_tool_call';
    const same = this.items.filter((item) => (calls ? item instanceof ShownCall : item.type === type));
    return itemId(type, this.responseId, this.before + same.length);
  }

  private open() {
    return this.items.filter((item) => item.open);
  }

  private shownCalls(): readonly ShownCall[] {
    return this.items.filter((item) => item instanceof ShownCall);
  }

  private parts(kind: TextKind) {
    return this.items.flatMap((item) => (item instanceof ShownText ? item.parts : [])).filter((p) => p.kind === kind);
  }

  private shownText(kind: TextKind): string {
    return this.parts(kind)
      .map(({ text }) => text)
      .join('');
  }

  private shownLogprobs(): number {
    return this.parts('output_text').reduce((sum, { logprobs }) => sum + logprobs.length, 0);
  }
}

const TEXTS: readonly (readonly [TextKind, (message: ResultMessage) => string])[] = [
  ['reasoning_text', (message) => message.reasoning_content ?? ''],
  ['output_text', (message) => message.content ?? ''],
  ['refusal', (message) => message.refusal ?? ''],
];

const typeOf = (call: ResultToolCall): CallType => (call.type === 'custom' ? 'custom_tool_call' : 'function_call');

const pieceOf = (call: ResultToolCall): CallPiece =>
  call.type === 'custom'
    ? { callId: call.id, name: call.custom.name, text: call.custom.input }
    : { callId: call.id, name: call.function.name, text: call.function.arguments };
