import type { AssistantMessage, Message, UserMessage } from '../chat.ts';
import type { AssistantContent, SystemContent, ToolOutput, UserContent } from './content.ts';
import type { Item } from './items.ts';

type UserPart = Exclude<UserMessage['content'], string>[number];
type AssistantPart = Exclude<NonNullable<AssistantMessage['content']>, string>[number];
type TextContent = Extract<Message, { role: 'tool' }>['content'];
type AssistantItem = Extract<Item, { type: 'message'; role: 'assistant' }>;

export const toUserContent = (content: UserContent): UserMessage['content'] => {
  if (typeof content === 'string') return content;
  const [first, ...others] = content;
  // Some OpenAI-compatible servers take text only as a string.
  if (first?.type === 'input_text' && others.length === 0) return first.text;
  return content.map(toUserPart);
};

function toUserPart(part: Exclude<UserContent, string>[number]): UserPart {
  switch (part.type) {
    case 'input_text':
      return { type: 'text', text: part.text };
    case 'input_image':
      return { type: 'image_url', image_url: { url: part.image_url, ...(part.detail && { detail: part.detail }) } };
    case 'input_file':
      return { type: 'file', file: { file_data: part.file_data, ...(part.filename && { filename: part.filename }) } };
    case 'input_audio':
      return { type: 'input_audio', input_audio: part.input_audio };
  }
}

export function toTextContent(content: SystemContent | ToolOutput): TextContent {
  if (typeof content === 'string') return content;
  const [first, ...others] = content;
  if (others.length === 0) return first?.text ?? '';
  return content.map(({ text }) => ({ type: 'text', text }));
}

export function toAssistantParts(content: AssistantContent | AssistantItem['content']): AssistantPart[] {
  if (typeof content === 'string') return content ? [{ type: 'text', text: content }] : [];
  return content.map((part) =>
    part.type === 'refusal' ? { type: 'refusal', refusal: part.refusal } : { type: 'text', text: part.text },
  );
}
