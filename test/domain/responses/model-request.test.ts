import { describe, expect, it } from 'vitest';
import { requirementsOf } from '../../../domain/capabilities.ts';
import { modelRequestSchema } from '../../../domain/chat.ts';
import { responseBody } from '../../../domain/responses/body.ts';
import { inputItemsOf } from '../../../domain/responses/input-items.ts';
import type { Item } from '../../../domain/responses/items.ts';
import { toModelRequest } from '../../../domain/responses/model-request.ts';

const requestOf = (extra: object = {}, history: readonly Item[] = []) =>
  toModelRequest(responseBody.parse({ input: 'hi', ...extra }), history);
const messagesOf = (input: object[], extra: object = {}) => requestOf({ input, ...extra }).messages;
const hi = { role: 'user', content: 'hi' };
const call = (id: string, name = 'f') => ({ type: 'function_call', call_id: id, name, arguments: '{"a":1}' });
const output = (id: string, text = 'out') => ({ type: 'function_call_output', call_id: id, output: text });
const chatCall = (id: string) => ({ id, type: 'function', function: { name: 'f', arguments: '{"a":1}' } });
const tool = { type: 'function', name: 'f' } as const;

describe('toModelRequest', () => {
  it('asks nothing of a provider that the caller did not ask', () => {
    expect(requestOf()).toEqual({ messages: [hi] });
    const plain = requestOf({
      instructions: 'x',
      max_output_tokens: 5,
      temperature: 1,
      text: { format: { type: 'text' }, verbosity: 'low' },
      top_logprobs: 0,
      parallel_tool_calls: true,
      tool_choice: 'auto',
      truncation: 'auto',
      metadata: { a: 'b' },
      include: ['reasoning.encrypted_content'],
      reasoning: { effort: null, summary: 'auto' },
      store: false,
      max_tool_calls: 1,
      user: 'u',
      safety_identifier: 's',
      service_tier: 'auto',
      prompt_cache_key: 'k',
      prompt_cache_retention: '24h',
    });
    expect(requirementsOf(plain)).toEqual([]);
    expect(plain).toEqual({
      messages: [{ role: 'system', content: 'x' }, hi],
      max_completion_tokens: 5,
      temperature: 1,
      verbosity: 'low',
      user: 'u',
      safety_identifier: 's',
      service_tier: 'auto',
      prompt_cache_key: 'k',
      prompt_cache_retention: '24h',
    });
  });

  it.each<[object, object]>([
    [{ reasoning: { effort: 'low' } }, { reasoning_effort: 'low' }],
    [{ top_logprobs: 3 }, { logprobs: true, top_logprobs: 3 }],
    [{ include: ['message.output_text.logprobs'] }, { logprobs: true }],
    [{ text: { format: { type: 'json_object' } } }, { response_format: { type: 'json_object' } }],
    [
      { text: { format: { type: 'json_schema', name: 's', schema: { type: 'object' }, strict: true } } },
      {
        response_format: { type: 'json_schema', json_schema: { name: 's', schema: { type: 'object' }, strict: true } },
      },
    ],
    [
      {
        tools: [{ ...tool, description: 'd', parameters: { type: 'object' }, strict: true }],
        parallel_tool_calls: false,
      },
      {
        tools: [
          { type: 'function', function: { name: 'f', description: 'd', parameters: { type: 'object' }, strict: true } },
        ],
        parallel_tool_calls: false,
      },
    ],
    [
      { tools: [{ type: 'custom', name: 'g', format: { type: 'grammar', definition: 'x', syntax: 'lark' } }] },
      {
        tools: [
          {
            type: 'custom',
            custom: { name: 'g', format: { type: 'grammar', grammar: { definition: 'x', syntax: 'lark' } } },
          },
        ],
      },
    ],
  ])('translates %j', (extra, expected) => {
    const request = requestOf(extra);
    expect(request).toEqual({ messages: [hi], ...expected });
    expect(modelRequestSchema.parse(request)).toEqual(request);
  });

  it('translates the choice of a tool', () => {
    const tools = [tool, { type: 'function', name: 'g' }];
    expect(requestOf({ tools, tool_choice: 'required' })).toMatchObject({ tool_choice: 'required' });
    const named = requestOf({ tools, tool_choice: { type: 'function', name: 'g' } });
    expect(named).toMatchObject({ tool_choice: { type: 'function', function: { name: 'g' } } });
    const allowed = requestOf({
      tools,
      tool_choice: { type: 'allowed_tools', mode: 'required', tools: [{ type: 'function', name: 'g' }] },
    });
    expect(allowed.tools).toEqual([{ type: 'function', function: { name: 'g' } }]);
    expect(allowed.tool_choice).toBe('required');
    expect(requirementsOf(allowed).map(({ capability }) => capability)).toEqual(['tools']);
  });

  it.each([
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tools: [tool], tool_choice: { type: 'function', name: 'g' } }, 'tool_choice.name'],
    [
      { tools: [tool], tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [{ type: 'custom', name: 'f' }] } },
      'tool_choice.tools[0].name',
    ],
    [{ input: [] }, 'input'],
    [{ input: [{ type: 'reasoning', id: 'rs_1', summary: [] }] }, 'input'],
  ])('refuses %j', (extra, param) => {
    expect(() => requestOf(extra)).toThrow(expect.objectContaining({ code: 'caller_invalid_request', param }));
  });
});

describe('the conversation', () => {
  it('keeps every kind of content', () => {
    const messages = messagesOf([
      {
        role: 'developer',
        content: [
          { type: 'input_text', text: 'a' },
          { type: 'input_text', text: 'b' },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'input_text', text: 'look' },
          { type: 'input_image', image_url: 'https://x.test/a.png', detail: 'high' },
          { type: 'input_file', file_data: 'data:application/pdf;base64,AA==', filename: 'a.pdf' },
          { type: 'input_audio', input_audio: { data: 'AA==', format: 'wav' } },
        ],
      },
      {
        role: 'assistant',
        content: [
          { type: 'output_text', text: 'no' },
          { type: 'refusal', refusal: 'never' },
        ],
      },
      { role: 'user', content: [{ type: 'input_text', text: 'hi' }] },
    ]);
    expect(messages).toEqual([
      {
        role: 'developer',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'look' },
          { type: 'image_url', image_url: { url: 'https://x.test/a.png', detail: 'high' } },
          { type: 'file', file: { file_data: 'data:application/pdf;base64,AA==', filename: 'a.pdf' } },
          { type: 'input_audio', input_audio: { data: 'AA==', format: 'wav' } },
        ],
      },
      {
        role: 'assistant',
        content: [
          { type: 'text', text: 'no' },
          { type: 'refusal', refusal: 'never' },
        ],
      },
      hi,
    ]);
    expect(() => modelRequestSchema.parse({ messages })).not.toThrow();
  });

  it('makes one message of what an assistant thought, said and called in a row', () => {
    const messages = messagesOf([
      hi,
      { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'hm' }] },
      { role: 'assistant', content: 'Let me look.' },
      call('a'),
      call('b'),
      output('b', 'B'),
      output('a', 'A'),
      { role: 'assistant', content: 'Done.' },
    ]);
    expect(messages).toEqual([
      hi,
      {
        role: 'assistant',
        content: 'Let me look.',
        reasoning_content: 'hm',
        tool_calls: [chatCall('a'), chatCall('b')],
      },
      { role: 'tool', tool_call_id: 'a', content: 'A' },
      { role: 'tool', tool_call_id: 'b', content: 'B' },
      { role: 'assistant', content: 'Done.' },
    ]);
  });

  it('drops thoughts that nothing was said or called after', () => {
    const thought = { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'hm' }] };
    expect(messagesOf([thought, hi])).toEqual([hi]);
  });

  it('continues earlier responses, whose calls the input answers', () => {
    const history = inputItemsOf([{ type: 'message', role: 'user', content: 'go' }], 'resp_1');
    const given: Item[] = [
      { type: 'function_call', id: 'fc_1', call_id: 'a', name: 'f', arguments: '{"a":1}', status: 'completed' },
    ];
    const request = requestOf({ input: [output('a')], instructions: 'new' }, [...history, ...given]);
    expect(request.messages).toEqual([
      { role: 'system', content: 'new' },
      { role: 'user', content: 'go' },
      { role: 'assistant', content: null, tool_calls: [chatCall('a')] },
      { role: 'tool', tool_call_id: 'a', content: 'out' },
    ]);
  });

  it('keeps calls apart whose ids a server used twice', () => {
    const messages = messagesOf([call('0'), output('0', 'first'), hi, call('0'), output('0', 'second')]);
    expect(messages.map(({ content }) => content)).toEqual([null, 'first', 'hi', null, 'second']);
  });

  it.each([
    [[hi, output('x')], 'input[1].call_id'],
    [[hi, output('x'), call('x')], 'input'],
    [[call('x'), output('x'), output('x')], 'input[2].call_id'],
    [[call('x'), hi], 'input'],
  ])('refuses calls and outputs that do not meet: %j', (input, param) => {
    expect(() => messagesOf(input)).toThrow(expect.objectContaining({ code: 'caller_invalid_request', param }));
  });

  it('blames the previous response for an output of its own without a call', () => {
    const history: Item[] = [{ type: 'function_call_output', call_id: 'x', output: '' }];
    expect(() => requestOf({}, history)).toThrow(expect.objectContaining({ param: 'previous_response_id' }));
  });

  it('shows custom calls as such where custom tools are offered, and as functions elsewhere', () => {
    const input = [
      { type: 'custom_tool_call', call_id: 'c', name: 'sql', input: 'select 1' },
      { type: 'custom_tool_call_output', call_id: 'c', output: '1' },
    ];
    const [offered] = messagesOf(input, { tools: [{ type: 'custom', name: 'sql' }] });
    expect(offered).toMatchObject({
      tool_calls: [{ id: 'c', type: 'custom', custom: { name: 'sql', input: 'select 1' } }],
    });
    const [elsewhere] = messagesOf(input);
    expect(elsewhere).toMatchObject({
      tool_calls: [{ id: 'c', type: 'function', function: { name: 'sql', arguments: '{"input":"select 1"}' } }],
    });
  });
});

describe('inputItemsOf', () => {
  it('gives ids that follow from the response and the place, and leaves the caller’s', () => {
    const { input } = responseBody.parse({
      input: [hi, { role: 'assistant', content: 'yo' }, { ...call('a'), id: 'fc_mine' }, output('a')],
    });
    expect(inputItemsOf(input, 'resp_12ab')).toEqual([
      {
        type: 'message',
        role: 'user',
        content: [{ type: 'input_text', text: 'hi' }],
        id: 'msg_12ab_in0',
        status: 'completed',
      },
      {
        type: 'message',
        role: 'assistant',
        content: [{ type: 'output_text', text: 'yo', annotations: [] }],
        id: 'msg_12ab_in1',
        status: 'completed',
      },
      { ...call('a'), id: 'fc_mine', status: 'completed' },
      { ...output('a'), id: 'fco_12ab_in3', status: 'completed' },
    ]);
    expect(inputItemsOf('hi', 'resp-9')).toMatchObject([{ id: 'msg_9_in0', role: 'user' }]);
  });

  it('means the same to the model as the input did', () => {
    const { input } = responseBody.parse({ input: [hi, call('a'), output('a')] });
    expect(requestOf({}, inputItemsOf(input, 'resp_1')).messages).toEqual([
      ...messagesOf([hi, call('a'), output('a')]),
      hi,
    ]);
  });
});
