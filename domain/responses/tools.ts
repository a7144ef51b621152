import { z } from 'zod';
import type { ModelRequest } from '../chat.ts';
import { HoldfastError } from '../errors.ts';

const functionTool = z.strictObject({
  type: z.literal('function'),
  name: z.string().min(1).max(128),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});
const customTool = z.strictObject({
  type: z.literal('custom'),
  name: z.string().min(1).max(128),
  description: z.string().nullish(),
  format: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('text') }),
      z.strictObject({ type: z.literal('grammar'), definition: z.string(), syntax: z.enum(['lark', 'regex']) }),
    ])
    .nullish(),
});

export const responseTool = z.discriminatedUnion('type', [functionTool, customTool]);

const namedTool = z.strictObject({ type: z.enum(['function', 'custom']), name: z.string() });

export const responseToolChoice = z.union([
  z.enum(['none', 'auto', 'required']),
  z.discriminatedUnion('type', [
    namedTool,
    z.strictObject({
      type: z.literal('allowed_tools'),
      mode: z.enum(['auto', 'required']),
      tools: z.array(namedTool).min(1),
    }),
  ]),
]);

export type ResponseTool = z.infer<typeof responseTool>;
export type ResponseToolChoice = z.infer<typeof responseToolChoice>;

type NamedTool = z.infer<typeof namedTool>;
type ChatTools = Pick<ModelRequest, 'tools' | 'tool_choice'>;

/**
 * Tools and the choice among them as chat completions have them. Throws `caller_invalid_request` for a choice of what
 * is not among the tools.
 */
export function toChatTools(tools: readonly ResponseTool[], choice: ResponseToolChoice | undefined): ChatTools {
  if (tools.length === 0) {
    // Chat completions refuse a choice without tools; the Responses API takes these two.
    if (choice === undefined || choice === 'auto' || choice === 'none') return {};
    throw invalid('tool_choice', "'tool_choice' asks for a tool, but 'tools' is empty.");
  }
  if (choice === undefined) return { tools: tools.map(toChatTool) };
  if (typeof choice === 'string') return { tools: tools.map(toChatTool), tool_choice: choice };
  if (choice.type === 'allowed_tools') {
    choice.tools.forEach((named, index) => {
      requireTool(tools, named, `tool_choice.tools[${index}].name`);
    });
    // Every provider can leave tools out; few know a list of allowed ones.
    const allowed = tools.filter((tool) => choice.tools.some((named) => isTool(tool, named)));
    return { tools: allowed.map(toChatTool), tool_choice: choice.mode };
  }
  const { type, name } = choice;
  requireTool(tools, { type, name }, 'tool_choice.name');
  return {
    tools: tools.map(toChatTool),
    tool_choice: type === 'function' ? { type, function: { name } } : { type, custom: { name } },
  };
}

const isTool = (tool: ResponseTool, { type, name }: NamedTool): boolean => tool.type === type && tool.name === name;

function requireTool(tools: readonly ResponseTool[], named: NamedTool, param: string): void {
  if (tools.some((tool) => isTool(tool, named))) return;
  throw invalid(param, `Tool choice '${named.name}' is not among 'tools'.`);
}

const invalid = (param: string, message: string) => new HoldfastError('caller_invalid_request', message, { param });

function toChatTool(tool: ResponseTool): NonNullable<ModelRequest['tools']>[number] {
  const { type, name, description } = tool;
  const about = { name, ...(description != null && { description }) };
  if (type === 'custom') {
    return { type, custom: { ...about, ...(tool.format && { format: toChatFormat(tool.format) }) } };
  }
  const { parameters, strict } = tool;
  return { type, function: { ...about, ...(parameters && { parameters }), ...(strict != null && { strict }) } };
}

function toChatFormat(format: NonNullable<Extract<ResponseTool, { type: 'custom' }>['format']>): object {
  if (format.type === 'text') return format;
  const { type, ...grammar } = format;
  return { type, grammar };
}
