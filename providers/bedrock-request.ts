import type {
  Message as BedrockMessage,
  ContentBlock,
  ConverseCommandInput,
  ImageFormat,
  InferenceConfiguration,
  OutputConfig,
  ToolConfiguration,
} from '@aws-sdk/client-bedrock-runtime';
import type { DocumentType } from '@smithy/types';
import { type Message, type ModelRequest, outputLimit, textOf, type UserMessage } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { ProviderCall } from './adapter.ts';
import { effortOf, thinkingBudgetOf, thinksByBudget } from './claude-thinking.ts';
import { parseDataUrl, parseToolArguments, systemText } from './translate.ts';

/** The unified request in the shape of Converse and ConverseStream. */
export function toConverseRequest(request: ModelRequest, call: ProviderCall): ConverseCommandInput {
  const system = systemText(request.messages);
  const toolConfig = toToolConfig(request);
  const outputConfig = toOutputConfig(request, call.model);
  const thinking = toThinking(request, call);
  return {
    modelId: call.model,
    messages: toMessages(request.messages),
    inferenceConfig: toInferenceConfig(request, call),
    ...(system && { system: [{ text: system }] }),
    ...(toolConfig && { toolConfig }),
    ...(outputConfig && { outputConfig }),
    ...(thinking && { additionalModelRequestFields: thinking }),
  };
}

function toInferenceConfig(request: ModelRequest, call: ProviderCall): InferenceConfiguration {
  const limit = outputLimit(request) ?? call.outputLimit;
  const stop = typeof request.stop === 'string' ? [request.stop] : request.stop;
  return {
    // Without a limit Converse uses the model's maximum, except for Claude's thinking, which needs to know it.
    ...(limit !== undefined && { maxTokens: limit }),
    ...(request.temperature !== undefined && { temperature: request.temperature }),
    ...(request.top_p !== undefined && { topP: request.top_p }),
    ...(stop?.length && { stopSequences: stop }),
  };
}

/** Turns alternate: neighbours of one role become one message, tool results included. */
function toMessages(messages: readonly Message[]): BedrockMessage[] {
  const turns: { role: 'user' | 'assistant'; content: ContentBlock[] }[] = [];
  messages.forEach((message, index) => {
    const content = toBlocks(message, index);
    if (content.length === 0) return;
    const role = message.role === 'assistant' ? 'assistant' : 'user';
    const last = turns.at(-1);
    if (last?.role === role) last.content.push(...content);
    else turns.push({ role, content });
  });
  return turns;
}

function toBlocks(message: Message, index: number): ContentBlock[] {
  switch (message.role) {
    case 'system':
    case 'developer':
      return [];
    case 'user':
      return typeof message.content === 'string'
        ? textBlocks(message.content)
        : message.content.flatMap((part, p) => toUserBlock(part, `messages[${index}].content[${p}]`));
    case 'tool':
      return [{ toolResult: { toolUseId: message.tool_call_id, content: [{ text: textOf(message.content) }] } }];
    case 'assistant':
      return [
        ...textBlocks(textOf(message.content)),
        ...(message.tool_calls ?? []).map((call, c): ContentBlock => {
          const param = `messages[${index}].tool_calls[${c}].function.arguments`;
          const input = parseToolArguments(call, param) as DocumentType;
          return { toolUse: { toolUseId: call.id, name: call.function.name, input } };
        }),
      ];
  }
}

/** The API refuses empty text blocks. */
const textBlocks = (text: string): ContentBlock[] => (text ? [{ text }] : []);

type UserPart = Exclude<UserMessage['content'], string>[number];

const IMAGE_FORMATS: ReadonlySet<string> = new Set<ImageFormat>(['png', 'jpeg', 'gif', 'webp']);

function toUserBlock(part: UserPart, param: string): ContentBlock[] {
  if (part.type === 'text') return textBlocks(part.text);
  if (part.type !== 'image_url') return [];
  const data = parseDataUrl(part.image_url.url);
  const format = data?.mediaType.replace('image/', '').replace('jpg', 'jpeg') ?? '';
  if (!data || !IMAGE_FORMATS.has(format)) {
    throw new HoldfastError('caller_unsupported_parameter', `'${param}' must be a PNG, JPEG, GIF or WebP image.`, {
      param,
    });
  }
  return [{ image: { format: format as ImageFormat, source: { bytes: Buffer.from(data.base64, 'base64') } } }];
}

function toToolConfig(request: ModelRequest): ToolConfiguration | undefined {
  const history = request.messages.some((message) => message.role === 'tool' || hasToolCalls(message));
  // Converse has no `none`: the tools go away, unless earlier turns used them, which the API then demands to see.
  if (!request.tools?.length || (request.tool_choice === 'none' && !history)) return undefined;
  const tools = request.tools.flatMap((tool) =>
    tool.type === 'function'
      ? [
          {
            toolSpec: {
              name: tool.function.name,
              ...(tool.function.description && { description: tool.function.description }),
              inputSchema: { json: { type: 'object', ...tool.function.parameters } as DocumentType },
              ...(tool.function.strict && { strict: true }),
            },
          },
        ]
      : [],
  );
  const choice = request.tool_choice;
  if (choice === 'required') return { tools, toolChoice: { any: {} } };
  if (typeof choice === 'object' && choice.type === 'function') {
    return { tools, toolChoice: { tool: { name: choice.function.name } } };
  }
  return { tools };
}

const hasToolCalls = (message: Message): boolean => message.role === 'assistant' && Boolean(message.tool_calls?.length);

function toOutputConfig(request: ModelRequest, model: string): OutputConfig | undefined {
  const format = request.response_format;
  const effort = thinksByBudget(model) ? undefined : effortOf(request.reasoning_effort);
  if (format?.type !== 'json_schema') return effort && { effort };
  const { name, description, schema } = format.json_schema;
  const jsonSchema = { name, ...(description && { description }), schema: JSON.stringify(schema ?? {}) };
  return { textFormat: { type: 'json_schema', structure: { jsonSchema } }, ...(effort && { effort }) };
}

function toThinking(request: ModelRequest, call: ProviderCall): DocumentType | undefined {
  const effort = request.reasoning_effort;
  if (!effort || effort === 'none' || !thinksByBudget(call.model) || request.messages.at(-1)?.role === 'tool') {
    return undefined;
  }
  const budget = thinkingBudgetOf(effort, outputLimit(request) ?? call.outputLimit ?? call.maxOutputTokens);
  return budget === undefined ? undefined : { thinking: { type: 'enabled', budget_tokens: budget } };
}
