import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type ResponseBody, responseBody } from '../../../domain/responses/body.ts';
import { rejectUnsupported } from '../../../domain/responses/unsupported.ts';

const parse = (extra: object) => responseBody.safeParse({ input: 'hi', ...extra });
/** Path of the first problem. */
const problem = (extra: object) => parse(extra).error?.issues[0]?.path.join('.');
const item = (fields: object) => parse({ input: [fields] });

describe('responseBody', () => {
  it('takes everything the gateway can do', () => {
    const body = {
      model: 'smart',
      instructions: 'Be brief.',
      previous_response_id: 'resp_1',
      tools: [
        { type: 'function', name: 'f', parameters: { type: 'object' }, strict: null },
        { type: 'custom', name: 'g', format: { type: 'grammar', definition: 'x', syntax: 'lark' } },
      ],
      tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [{ type: 'function', name: 'f' }] },
      parallel_tool_calls: false,
      max_tool_calls: 3,
      max_output_tokens: 1,
      temperature: 0,
      top_p: 1,
      top_logprobs: 2,
      text: { format: { type: 'json_schema', name: 's', schema: {} }, verbosity: 'low' },
      reasoning: { effort: 'low', summary: 'auto', generate_summary: null },
      include: ['message.output_text.logprobs', 'reasoning.encrypted_content'],
      truncation: 'auto',
      store: true,
      background: true,
      stream: true,
      stream_options: { include_obfuscation: false },
      metadata: { a: 'b' },
      user: 'u',
      safety_identifier: 's',
      prompt_cache_key: 'k',
      prompt_cache_retention: '24h',
      service_tier: 'flex',
    } satisfies Omit<ResponseBody, 'input'>;
    expect(parse(body).data).toEqual({ input: 'hi', ...body });
  });

  it.each<[string, object]>([
    ['a short message', { role: 'user', content: 'hi' }],
    ['a typed message', { type: 'message', role: 'developer', content: [{ type: 'input_text', text: 'hi' }] }],
    [
      'an image',
      { role: 'user', content: [{ type: 'input_image', image_url: 'https://x.test/a.png', detail: 'auto' }] },
    ],
    [
      'a file',
      { role: 'user', content: [{ type: 'input_file', file_data: 'data:x', filename: 'a.pdf', file_id: null }] },
    ],
    ['sound', { role: 'user', content: [{ type: 'input_audio', input_audio: { data: 'AA==', format: 'wav' } }] }],
    [
      'an answer passed back',
      {
        type: 'message',
        id: 'msg_1',
        status: 'completed',
        role: 'assistant',
        content: [
          { type: 'output_text', text: 'a', annotations: [], parsed: null },
          { type: 'refusal', refusal: 'no' },
        ],
      },
    ],
    ['a call passed back', { type: 'function_call', id: 'fc_1', call_id: 'c', name: 'f', arguments: '{}' }],
    ['an output', { type: 'function_call_output', call_id: 'c', output: 'x', status: null }],
    ['an output in parts', { type: 'function_call_output', call_id: 'c', output: [{ type: 'input_text', text: 'x' }] }],
    ['a custom call', { type: 'custom_tool_call', call_id: 'c', name: 'f', input: 'x' }],
    ['a custom output', { type: 'custom_tool_call_output', call_id: 'c', output: 'x' }],
    ['reasoning', { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: null }],
  ])('takes %s as an item', (_name, fields) => {
    const { data, error } = item(fields);
    expect(error).toBeUndefined();
    expect(data?.input).toEqual([{ ...fields, type: (fields as { type?: string }).type ?? 'message' }]);
  });

  it.each<[string, object, string]>([
    ['no input', { input: undefined }, 'input'],
    ['an unknown role', { input: [{ role: 'robot', content: 'x' }] }, 'input'],
    ['too many pairs', { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, ''])) }, 'metadata'],
    ['a long key', { metadata: { ['k'.repeat(65)]: '' } }, `metadata.${'k'.repeat(65)}`],
    ['a long value', { metadata: { k: 'v'.repeat(513) } }, 'metadata.k'],
    ['a value that is no text', { metadata: { k: 1 } }, 'metadata.k'],
    ['no room for output', { max_output_tokens: 0 }, 'max_output_tokens'],
    ['a background response that nobody could fetch', { background: true, store: false }, 'background'],
    ['an unknown effort', { reasoning: { effort: 'huge' } }, 'reasoning.effort'],
  ])('refuses %s', (_name, extra, path) => {
    expect(problem(extra)).toBe(path);
  });

  it.each([
    [{ best_of: 2 }, 'best_of'],
    [{ tools: [{ type: 'function', name: 'f', returns: {} }] }, 'returns'],
  ])('refuses fields nobody knows by their name: %j', (extra, key) => {
    expect(parse(extra).error?.issues[0]).toMatchObject({ code: 'unrecognized_keys', keys: [key] });
  });

  it('can be described to callers', () => {
    const schema = z.toJSONSchema(responseBody, { io: 'input' });
    expect(schema).toMatchObject({ required: ['input'], additionalProperties: false });
    expect(JSON.stringify(schema)).toContain('custom_tool_call_output');
  });
});

describe('rejectUnsupported', () => {
  const user = (part: object) => ({ input: [{ role: 'user', content: [part] }] });

  it.each<[object, string]>([
    [{ tools: [{ type: 'function', name: 'f' }, { type: 'web_search' }] }, 'tools[1].type'],
    [{ tool_choice: { type: 'file_search' } }, 'tool_choice.type'],
    [{ prompt: { id: 'pmpt_1' } }, 'prompt'],
    [{ conversation: 'conv_1' }, 'conversation'],
    [{ context_management: [] }, 'context_management'],
    [{ stream_options: { include_obfuscation: true } }, 'stream_options.include_obfuscation'],
    [
      {
        input: [
          { role: 'user', content: 'x' },
          { type: 'item_reference', id: 'msg_1' },
        ],
      },
      'input[1].type',
    ],
    [{ input: [{ type: 'computer_call_output', call_id: 'c', output: {} }] }, 'input[0].type'],
    [user({ type: 'input_file', file_id: 'file_1' }), 'input[0].content[0].file_id'],
    [user({ type: 'input_file', file_url: 'https://x.test/a.pdf' }), 'input[0].content[0].file_url'],
    [user({ type: 'input_image', file_id: 'file_1' }), 'input[0].content[0].file_id'],
    [
      { input: [{ type: 'function_call_output', call_id: 'c', output: [{ type: 'input_image', image_url: 'x' }] }] },
      'input[0].output[0].type',
    ],
  ])('names what the gateway cannot do for every provider: %j', (body, param) => {
    expect(() => rejectUnsupported({ input: 'hi', ...body })).toThrow(
      expect.objectContaining({ code: 'caller_unsupported_parameter', param }),
    );
  });

  it.each([
    [{ input: 'hi', prompt: null, tools: [{ type: 'custom', name: 'f' }], tool_choice: 'auto' }],
    [user({ type: 'input_file', file_data: 'data:x', file_id: null })],
    // Wrong, but for the schema to say.
    [{ tools: 'all', input: [1, null, { content: 5 }] }],
    [undefined],
    [[]],
  ])('lets %j pass', (body) => {
    expect(() => rejectUnsupported(body)).not.toThrow();
  });
});
