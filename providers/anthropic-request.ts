import type {
  ContentBlockParam,
  ImageBlockParam,
  MessageCreateParamsNonStreaming,
  MessageParam,
  OutputConfig,
  ThinkingConfigParam,
  ToolChoice,
} from '@anthropic-ai/sdk/resources/messages';
import { type Message, type ModelRequest, outputLimit, textOf, type UserMessage } from '../domain/chat.ts';
import type { ModelTarget } from './adapter.ts';
import { effortOf, thinkingBudgetOf, thinksByBudget } from './claude-thinking.ts';
import { parseDataUrl, parseToolArguments, systemText } from './translate.ts';

type Request = Omit<MessageCreateParamsNonStreaming, 'stream'>;

/** The last version of the API that samples as the caller says. */
const SAMPLING_VERSION = '2023-06-01';

/**
 * API version 2026-10-21, the SDK's default, refuses `temperature` and `top_p` on every model, even at their default of
 * 1. Requests that set them to anything else go by the version that has them, if the model still does.
 */
export function versionHeaders({ temperature = 1, top_p = 1 }: ModelRequest): Record<string, string> {
  return temperature === 1 && top_p === 1 ? {} : { 'anthropic-version': SAMPLING_VERSION };
}

function toSampling({ temperature = 1, top_p = 1 }: ModelRequest): { temperature?: number; top_p?: number } {
  return { ...(temperature !== 1 && { temperature }), ...(top_p !== 1 && { top_p }) };
}

/** The unified request in the shape of the Messages API. */
export function toAnthropicRequest(request: ModelRequest, target: ModelTarget): Request {
  const system = systemText(request.messages);
  const maxTokens = outputLimit(request) ?? target.outputLimit ?? target.maxOutputTokens;
  const stop = typeof request.stop === 'string' ? [request.stop] : request.stop;
  const outputConfig = toOutputConfig(request, target.model);
  const thinking = toThinking(request, target.model, maxTokens);
  return {
    model: target.model,
    max_tokens: maxTokens,
    messages: toMessages(request.messages),
    ...(system && { system }),
    ...toSampling(request),
    ...(stop?.length && { stop_sequences: stop }),
    ...(typeof request.user === 'string' && { metadata: { user_id: request.user } }),
    ...toTools(request),
    ...(outputConfig && { output_config: outputConfig }),
    ...(thinking && { thinking }),
  };
}

/** Turns alternate: neighbours of one role become one message, tool results included. */
function toMessages(messages: readonly Message[]): MessageParam[] {
  const turns: { role: 'user' | 'assistant'; content: ContentBlockParam[] }[] = [];
  messages.forEach((message, index) => {
    const role = message.role === 'assistant' ? 'assistant' : 'user';
    const content = toBlocks(message, index);
    const last = turns.at(-1);
    if (last?.role === role) last.content.push(...content);
    else turns.push({ role, content });
  });
  return turns.filter((turn) => turn.content.length > 0);
}

function toBlocks(message: Message, index: number): ContentBlockParam[] {
  switch (message.role) {
    case 'system':
    case 'developer':
      return [];
    case 'user':
      return typeof message.content === 'string' ? textBlocks(message.content) : message.content.flatMap(toUserBlock);
    case 'tool':
      return [{ type: 'tool_result', tool_use_id: message.tool_call_id, content: textOf(message.content) }];
    case 'assistant':
      return [
        ...textBlocks(textOf(message.content)),
        ...(message.tool_calls ?? []).map(
          (call, c): ContentBlockParam => ({
            type: 'tool_use',
            id: call.id,
            name: call.function.name,
            input: parseToolArguments(call, `messages[${index}].tool_calls[${c}].function.arguments`),
          }),
        ),
      ];
  }
}

/** The API refuses empty text blocks. */
const textBlocks = (text: string): ContentBlockParam[] => (text ? [{ type: 'text', text }] : []);

type UserPart = Exclude<UserMessage['content'], string>[number];

function toUserBlock(part: UserPart): ContentBlockParam[] {
  if (part.type === 'text') return textBlocks(part.text);
  if (part.type !== 'image_url') return [];
  const data = parseDataUrl(part.image_url.url);
  const source: ImageBlockParam['source'] = data
    ? { type: 'base64', media_type: data.mediaType as 'image/png', data: data.base64 }
    : { type: 'url', url: part.image_url.url };
  return [{ type: 'image', source }];
}

function toTools(request: ModelRequest): Pick<Request, 'tools' | 'tool_choice'> {
  if (!request.tools?.length) return {};
  const tools = request.tools.flatMap((tool) =>
    tool.type === 'function'
      ? [
          {
            name: tool.function.name,
            ...(tool.function.description && { description: tool.function.description }),
            input_schema: { type: 'object' as const, ...tool.function.parameters },
            ...(tool.function.strict && { strict: true }),
          },
        ]
      : [],
  );
  return { tools, tool_choice: toToolChoice(request) };
}

function toToolChoice({ tool_choice, parallel_tool_calls }: ModelRequest): ToolChoice {
  const single = parallel_tool_calls === false ? { disable_parallel_tool_use: true } : {};
  if (tool_choice === 'none') return { type: 'none' };
  if (tool_choice === 'required') return { type: 'any', ...single };
  if (typeof tool_choice === 'object' && tool_choice.type === 'function') {
    return { type: 'tool', name: tool_choice.function.name, ...single };
  }
  return { type: 'auto', ...single };
}

function toOutputConfig(request: ModelRequest, model: string): OutputConfig | undefined {
  const format = request.response_format;
  const schema = format?.type === 'json_schema' ? { ...format.json_schema.schema } : undefined;
  const effort = thinksByBudget(model) ? undefined : effortOf(request.reasoning_effort);
  if (!schema && !effort) return undefined;
  return { ...(schema && { format: { type: 'json_schema', schema } }), ...(effort && { effort }) };
}

function toThinking(request: ModelRequest, model: string, maxTokens: number): ThinkingConfigParam | undefined {
  const effort = request.reasoning_effort;
  if (!effort) return undefined;
  // Thinking may not start in the middle of a tool exchange, and OpenAI's shape does not carry the earlier thoughts.
  if (effort === 'none' || request.messages.at(-1)?.role === 'tool') return { type: 'disabled' };
  if (!thinksByBudget(model)) return { type: 'adaptive' };
  const budget = thinkingBudgetOf(effort, maxTokens);
  return budget === undefined ? undefined : { type: 'enabled', budget_tokens: budget };
}
