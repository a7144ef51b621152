import type {
  Choice,
  ChoiceDelta,
  CustomToolCall,
  FinishReason,
  ModelAnswer,
  StreamEvent,
  ToolCall,
  ToolCallDelta,
} from './chat.ts';
import type { Usage } from './money.ts';

interface PartialToolCall {
  id: string;
  custom: boolean;
  name: string;
  /** Arguments of a function, input of a custom tool. */
  text: string;
}

interface PartialChoice {
  content: string | null;
  refusal: string | null;
  reasoning: string;
  toolCalls: Map<number, PartialToolCall>;
  logprobs: Record<string, unknown[]> | null;
  finish: { reason: FinishReason; native: string } | null;
}

/** Folds the events of a stream into the result that a non-streaming call would have given. */
export class StreamAccumulator {
  private model = '';
  private extra: Readonly<Record<string, unknown>> | undefined;
  private readonly choices = new Map<number, PartialChoice>();
  /** The latest usage the provider reported. */
  usage: Usage | null = null;
  /** Whether `usage` is the whole call's. */
  usageFinal = false;

  add(event: StreamEvent): void {
    switch (event.type) {
      case 'start':
        this.model = event.model;
        this.extra = event.extra;
        break;
      case 'delta':
        for (const choice of event.choices) this.addDelta(choice);
        break;
      case 'finish':
        this.choice(event.index).finish = { reason: event.reason, native: event.native };
        break;
      case 'usage':
        this.usage = event.usage;
        this.usageFinal = event.final;
        break;
    }
  }

  /** Whether any choice has finished; a stream that ends without a finish reason was cut. */
  get finished(): boolean {
    return this.choices.size > 0 && [...this.choices.values()].every((choice) => choice.finish !== null);
  }

  /** All text generated so far, for counting tokens the provider did not report. */
  get text(): string {
    return [...this.choices.values()]
      .map((choice) => {
        const tools = [...choice.toolCalls.values()].map((call) => call.name + call.text).join('');
        return (choice.content ?? '') + (choice.refusal ?? '') + choice.reasoning + tools;
      })
      .join('');
  }

  answer(): ModelAnswer {
    const choices = [...this.choices].sort(([a], [b]) => a - b).map(([index, choice]) => toChoice(index, choice));
    return {
      model: this.model,
      choices,
      usage: this.usageFinal ? this.usage : null,
      ...(this.extra && { extra: this.extra }),
    };
  }

  private choice(index: number): PartialChoice {
    let choice = this.choices.get(index);
    if (!choice) {
      choice = { content: null, refusal: null, reasoning: '', toolCalls: new Map(), logprobs: null, finish: null };
      this.choices.set(index, choice);
    }
    return choice;
  }

  private addDelta({ index, delta, logprobs }: ChoiceDelta): void {
    const choice = this.choice(index);
    if (delta.content !== undefined) choice.content = (choice.content ?? '') + delta.content;
    if (delta.refusal !== undefined) choice.refusal = (choice.refusal ?? '') + delta.refusal;
    if (delta.reasoning_content !== undefined) choice.reasoning += delta.reasoning_content;
    for (const call of delta.tool_calls ?? []) addToolCall(choice.toolCalls, call);
    if (logprobs) choice.logprobs = mergeLogprobs(choice.logprobs, logprobs as Record<string, unknown[] | null>);
  }
}

function addToolCall(calls: PartialChoice['toolCalls'], delta: ToolCallDelta): void {
  const call = calls.get(delta.index) ?? { id: '', custom: false, name: '', text: '' };
  if (delta.id) call.id = delta.id;
  if (delta.custom) call.custom = true;
  call.name += delta.function?.name ?? delta.custom?.name ?? '';
  call.text += delta.function?.arguments ?? delta.custom?.input ?? '';
  calls.set(delta.index, call);
}

function mergeLogprobs(
  into: Record<string, unknown[]> | null,
  from: Record<string, unknown[] | null>,
): Record<string, unknown[]> {
  const merged = into ?? {};
  for (const [key, values] of Object.entries(from)) {
    if (!values) continue;
    merged[key] ??= [];
    merged[key].push(...values);
  }
  return merged;
}

function toChoice(index: number, choice: PartialChoice): Choice {
  const toolCalls = [...choice.toolCalls].sort(([a], [b]) => a - b).map(([, call]) => toToolCall(call));
  return {
    index,
    message: {
      role: 'assistant',
      content: choice.content,
      ...(choice.refusal !== null && { refusal: choice.refusal }),
      ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
      ...(choice.reasoning && { reasoning_content: choice.reasoning }),
    },
    finish_reason: choice.finish?.reason ?? 'stop',
    native_finish_reason: choice.finish?.native ?? '',
    ...(choice.logprobs && { logprobs: choice.logprobs }),
  };
}

const toToolCall = ({ id, custom, name, text }: PartialToolCall): ToolCall | CustomToolCall =>
  custom
    ? { id, type: 'custom', custom: { name, input: text } }
    : { id, type: 'function', function: { name, arguments: text } };
