/**
 * The unified request and result: OpenAI's chat completion without its transport fields. Field names stay OpenAI's,
 * so a request passes to an OpenAI-compatible provider unchanged; every other adapter translates.
 */
import { z } from 'zod';
import type { Usage } from './money.ts';

const textPart = z.looseObject({ type: z.literal('text'), text: z.string() });
export const imageUrl = z
  .string()
  .regex(/^(https?:\/\/|data:image\/[a-z.+-]+;base64,)/i, 'must be an http(s) URL or a base64 data URL of an image');
export const imageDetail = z.enum(['auto', 'low', 'high']);
const imagePart = z.looseObject({
  type: z.literal('image_url'),
  image_url: z.looseObject({ url: imageUrl, detail: imageDetail.optional() }),
});
const audioPart = z.looseObject({
  type: z.literal('input_audio'),
  input_audio: z.looseObject({ data: z.string(), format: z.string() }),
});
const filePart = z.looseObject({ type: z.literal('file'), file: z.looseObject({}) });
const refusalPart = z.looseObject({ type: z.literal('refusal'), refusal: z.string() });

const textContent = z.union([z.string(), z.array(textPart).min(1)]);

export const toolCallSchema = z.looseObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.looseObject({ name: z.string(), arguments: z.string() }),
});

const systemMessage = z.looseObject({ role: z.enum(['system', 'developer']), content: textContent });
const userMessage = z.looseObject({
  role: z.literal('user'),
  content: z.union([
    z.string(),
    z.array(z.discriminatedUnion('type', [textPart, imagePart, audioPart, filePart])).min(1),
  ]),
});
const assistantMessage = z.looseObject({
  role: z.literal('assistant'),
  content: z.union([z.string(), z.array(z.discriminatedUnion('type', [textPart, refusalPart]))]).nullish(),
  tool_calls: z.array(toolCallSchema).optional(),
});
const toolMessage = z.looseObject({ role: z.literal('tool'), tool_call_id: z.string(), content: textContent });

export const messageSchema = z.discriminatedUnion('role', [systemMessage, userMessage, assistantMessage, toolMessage]);

const functionTool = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({
    name: z.string().min(1).max(128),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullish(),
  }),
});
const customTool = z.looseObject({ type: z.literal('custom') });

const responseFormat = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text') }),
  z.looseObject({ type: z.literal('json_object') }),
  z.looseObject({
    type: z.literal('json_schema'),
    json_schema: z.looseObject({
      name: z.string(),
      description: z.string().optional(),
      schema: z.record(z.string(), z.unknown()).optional(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

/** Every field but transport ones. Unknown fields are kept: they pass through to OpenAI-compatible providers. */
export const modelRequestSchema = z.looseObject({
  messages: z.array(messageSchema).min(1),
  max_tokens: z.int().min(1).optional(),
  max_completion_tokens: z.int().min(1).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  n: z.int().min(1).max(128).optional(),
  stop: z.union([z.string(), z.array(z.string()).max(4)]).optional(),
  seed: z.int().optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: z.int().min(0).max(20).optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  logit_bias: z.record(z.string(), z.number()).optional(),
  tools: z.array(z.discriminatedUnion('type', [functionTool, customTool])).optional(),
  tool_choice: z
    .union([
      z.enum(['none', 'auto', 'required']),
      z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string() }) }),
      z.looseObject({ type: z.enum(['custom', 'allowed_tools']) }),
    ])
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
  response_format: responseFormat.optional(),
  reasoning_effort: z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']).optional(),
});

export type ModelRequest = z.infer<typeof modelRequestSchema>;
export type Message = z.infer<typeof messageSchema>;
export type UserMessage = z.infer<typeof userMessage>;
export type AssistantMessage = z.infer<typeof assistantMessage>;
export type ToolMessage = z.infer<typeof toolMessage>;
export type ToolCall = z.infer<typeof toolCallSchema>;
export type Tool = z.infer<typeof functionTool>;

/** The output limit the caller set, by whichever of OpenAI's two names. */
export const outputLimit = (request: ModelRequest): number | undefined =>
  request.max_completion_tokens ?? request.max_tokens;

/** A message's text, with other parts left out. */
export function textOf(content: Message['content']): string {
  if (typeof content === 'string') return content;
  return (content ?? []).map((part) => (part.type === 'text' ? part.text : '')).join('');
}

export type FinishReason = 'stop' | 'length' | 'tool_calls' | 'content_filter';

/** A call of a custom tool: its input is free text. OpenAI has them. */
export interface CustomToolCall {
  readonly id: string;
  readonly type: 'custom';
  readonly custom: { readonly name: string; readonly input: string };
}

export interface ResultMessage {
  readonly role: 'assistant';
  readonly content: string | null;
  readonly refusal?: string | null;
  readonly tool_calls?: readonly (ToolCall | CustomToolCall)[];
  /** The model's visible reasoning, where a provider gives it (the field name DeepSeek, vLLM and others use). */
  readonly reasoning_content?: string;
}

export interface Choice {
  readonly index: number;
  readonly message: ResultMessage;
  readonly finish_reason: FinishReason;
  /** The provider's own word for why it stopped, e.g. `end_turn`. */
  readonly native_finish_reason: string;
  readonly logprobs?: unknown;
}

/** What a provider answered. */
export interface ModelAnswer {
  /** Model name as the provider reported it. */
  readonly model: string;
  readonly choices: readonly Choice[];
  /** null when the provider reported none. */
  readonly usage: Usage | null;
  /** Top-level fields of an OpenAI-compatible answer that the gateway hands on as they are. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** An answer whose usage is known, by the provider's report or the gateway's count. */
export interface ModelResult extends ModelAnswer {
  readonly usage: Usage;
}

export interface ToolCallDelta {
  readonly index: number;
  readonly id?: string;
  readonly type?: 'function' | 'custom';
  readonly function?: { readonly name?: string; readonly arguments?: string };
  readonly custom?: { readonly name?: string; readonly input?: string };
}

export interface ChoiceDelta {
  readonly index: number;
  readonly delta: {
    readonly content?: string;
    readonly refusal?: string;
    readonly reasoning_content?: string;
    readonly tool_calls?: readonly ToolCallDelta[];
  };
  readonly logprobs?: unknown;
}

/** What an adapter's stream yields, in order of arrival. */
export type StreamEvent =
  | { readonly type: 'start'; readonly model: string; readonly extra?: Readonly<Record<string, unknown>> }
  | { readonly type: 'delta'; readonly choices: readonly ChoiceDelta[] }
  | { readonly type: 'finish'; readonly index: number; readonly reason: FinishReason; readonly native: string }
  /** `final` is false for counts that will still grow, such as Anthropic's at the start of a message. */
  | { readonly type: 'usage'; readonly usage: Usage; readonly final: boolean };
