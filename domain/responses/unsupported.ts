import { HoldfastError } from '../errors.ts';
import { INPUT_ITEM_TYPES } from './items.ts';

/** Fields of OpenAI's platform that not every provider has a match for. */
const UNSUPPORTED_FIELDS = ['prompt', 'conversation', 'context_management', 'moderation', 'prompt_cache_options'];
const TOOL_TYPES: ReadonlySet<string> = new Set(['function', 'custom']);
const TOOL_CHOICE_TYPES: ReadonlySet<string> = new Set([...TOOL_TYPES, 'allowed_tools']);
const TEXT_TYPES: ReadonlySet<string> = new Set(['input_text']);
/** Fields of content parts that name files elsewhere. */
const FILE_REFERENCES = ['file_id', 'file_url'];

/**
 * Throws `caller_unsupported_parameter` for what OpenAI's Responses API has and the gateway cannot do for every
 * provider, so that nobody takes it for a typing error. Everything else is left to `responseBody`.
 */
export function rejectUnsupported(body: unknown): void {
  const { tools, tool_choice, input, stream_options, ...rest } = fieldsOf(body);
  for (const param of UNSUPPORTED_FIELDS) {
    if (rest[param] != null) throw unsupported(param, `'${param}' is not supported by the gateway.`);
  }
  listOf(tools).forEach((tool, t) => {
    checkType(tool, TOOL_TYPES, `tools[${t}].type`, 'a tool');
  });
  checkType(tool_choice, TOOL_CHOICE_TYPES, 'tool_choice.type', 'a tool choice');
  if (fieldsOf(stream_options).include_obfuscation === true) {
    const param = 'stream_options.include_obfuscation';
    throw unsupported(param, `'${param}' is not supported by the gateway: it pads no events.`);
  }
  listOf(input).forEach((item, i) => {
    checkItem(item, `input[${i}]`);
  });
}

function checkItem(item: unknown, param: string): void {
  checkType(item, INPUT_ITEM_TYPES, `${param}.type`, 'an input item');
  const { content, output } = fieldsOf(item);
  listOf(content).forEach((part, p) => {
    const fields = fieldsOf(part);
    const reference = FILE_REFERENCES.find((name) => fields[name] != null);
    if (!reference) return;
    const at = `${param}.content[${p}].${reference}`;
    throw unsupported(at, `'${at}' is not supported by the gateway; send the content itself as a base64 data URL.`);
  });
  listOf(output).forEach((part, p) => {
    checkType(part, TEXT_TYPES, `${param}.output[${p}].type`, 'part of a tool’s output');
  });
}

function checkType(value: unknown, supported: ReadonlySet<string>, param: string, what: string): void {
  const { type } = fieldsOf(value);
  if (typeof type !== 'string' || supported.has(type)) return;
  const known = [...supported].map((name) => `'${name}'`).join(', ');
  throw unsupported(param, `'${type}' is not supported by the gateway as ${what}; it knows ${known}.`);
}

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? { ...value } : {};

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const unsupported = (param: string, message: string) =>
  new HoldfastError('caller_unsupported_parameter', message, { param });
