import { type Message, type ToolCall, textOf } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';

/** Media type and payload of a base64 data URL, or undefined for any other URL. */
export function parseDataUrl(url: string): { readonly mediaType: string; readonly base64: string } | undefined {
  const match = /^data:([^;,]+);base64,(.*)$/is.exec(url);
  return match?.[1] !== undefined && match[2] !== undefined ? { mediaType: match[1], base64: match[2] } : undefined;
}

/** The arguments object of a tool call in a caller's message. */
export function parseToolArguments(call: ToolCall, param: string): Record<string, unknown> {
  if (!call.function.arguments.trim()) return {};
  try {
    const parsed: unknown = JSON.parse(call.function.arguments);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) {
      return parsed as Record<string, unknown>;
    }
  } catch {
    // Reported below like any other value that is not an object.
  }
  throw new HoldfastError('caller_invalid_request', `'${param}' must be a JSON object.`, { param });
}

/** System and developer messages as one text, for APIs that take instructions apart from the conversation. */
export const systemText = (messages: readonly Message[]): string =>
  messages
    .filter((message) => message.role === 'system' || message.role === 'developer')
    .map((message) => textOf(message.content))
    .filter(Boolean)
    .join('\n\n');
