import type { Message, ModelRequest } from '../chat.ts';
import { HoldfastError } from '../errors.ts';
import type { ResponseBody } from './body.ts';
import { asItems } from './input-items.ts';
import type { Item } from './items.ts';
import { toMessages } from './messages.ts';
import { toChatTools } from './tools.ts';

/**
 * A response's request in the unified shape, with nothing set that the caller did not set, so that a plain one can go
 * to every provider. Throws `caller_invalid_request` when calls and outputs or tools and tool choice do not match.
 * @param history Items of the previous responses, input and output, oldest first. Their instructions are not part of it:
 * OpenAI does not carry them over.
 */
export function toModelRequest(body: ResponseBody, history: readonly Item[] = []): ModelRequest {
  const tools = toChatTools(body.tools ?? [], body.tool_choice);
  const customTools = tools.tools?.some(({ type }) => type === 'custom') ?? false;
  const conversation = toMessages({ history, input: asItems(body.input), customTools });
  if (conversation.length === 0) {
    throw new HoldfastError('caller_invalid_request', "'input' holds nothing for the model.", { param: 'input' });
  }
  const instructions: Message[] = body.instructions ? [{ role: 'system', content: body.instructions }] : [];
  return {
    messages: [...instructions, ...conversation],
    ...tools,
    ...onlySet({
      // Without tools chat completions refuse the field.
      parallel_tool_calls: tools.tools && body.parallel_tool_calls,
      max_completion_tokens: body.max_output_tokens,
      temperature: body.temperature,
      top_p: body.top_p,
      response_format: toResponseFormat(body.text?.format),
      verbosity: body.text?.verbosity ?? undefined,
      reasoning_effort: body.reasoning?.effort ?? undefined,
      user: body.user,
      safety_identifier: body.safety_identifier,
      prompt_cache_key: body.prompt_cache_key,
      prompt_cache_retention: body.prompt_cache_retention,
      service_tier: body.service_tier,
    }),
    ...toLogprobs(body),
  };
}

const onlySet = <T extends object>(fields: T): T =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;

function toLogprobs({ include, top_logprobs }: ResponseBody): Pick<ModelRequest, 'logprobs' | 'top_logprobs'> {
  if (top_logprobs) return { logprobs: true, top_logprobs };
  return include?.includes('message.output_text.logprobs') ? { logprobs: true } : {};
}

function toResponseFormat(format: NonNullable<ResponseBody['text']>['format']): ModelRequest['response_format'] {
  if (!format || format.type === 'text') return undefined;
  if (format.type === 'json_object') return { type: 'json_object' };
  const { name, schema, description, strict } = format;
  return {
    type: 'json_schema',
    json_schema: { name, schema, ...(description != null && { description }), ...(strict != null && { strict }) },
  };
}
