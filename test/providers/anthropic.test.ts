import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ModelRequest } from '../../domain/chat.ts';
import type { ProviderAdapter } from '../../providers/adapter.ts';
import { adapterOf, call, collect, fullConversation, request, weatherTool } from '../support/adapters.ts';
import { FixtureServer, sse } from '../support/fixture-server.ts';

const message = {
  id: 'msg_01XFDUDYJgAACzvnptvVoYEL',
  type: 'message',
  role: 'assistant',
  model: 'claude-sonnet-4-5-20250929',
  content: [{ type: 'text', text: 'Hello!', citations: null }],
  stop_reason: 'end_turn',
  stop_sequence: null,
  usage: {
    input_tokens: 12,
    cache_creation_input_tokens: 3,
    cache_read_input_tokens: 100,
    output_tokens: 6,
    output_tokens_details: { thinking_tokens: 2 },
    service_tier: 'standard',
  },
};

const server = new FixtureServer();
let adapter: ProviderAdapter;
beforeAll(async () => {
  await server.start();
  adapter = adapterOf({ type: 'anthropic', base_url: server.url, api_key: 'sk-ant-test' });
});
afterAll(() => server.stop());
beforeEach(() => {
  server.reset();
  server.reply = () => ({ body: message });
});

async function sent(overrides: Partial<ModelRequest>, model = 'claude-sonnet-4-5') {
  await adapter.complete(request(overrides), call({ model }));
  return server.last.body;
}

describe('a request', () => {
  it('carries instructions apart, images as blocks, and tool results in one user turn', async () => {
    const body = await sent({ messages: fullConversation, tools: [weatherTool] });
    expect(server.last).toMatchObject({ path: '/v1/messages', headers: { 'x-api-key': 'sk-ant-test' } });
    expect(body.system).toBe('Be brief.\n\nAnswer in English.');
    expect(body.messages).toEqual([
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What is this?' },
          { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'aGVsbG8=' } },
        ],
      },
      {
        role: 'assistant',
        content: [
          { type: 'text', text: 'Let me look.' },
          { type: 'tool_use', id: 'call_1', name: 'zoom', input: { factor: 2 } },
          { type: 'tool_use', id: 'call_2', name: 'identify', input: {} },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 'call_1', content: 'zoomed' },
          { type: 'tool_result', tool_use_id: 'call_2', content: 'a cat' },
          { type: 'text', text: 'And now?' },
        ],
      },
    ]);
    expect(body.tools).toEqual([
      { name: 'get_weather', description: 'Weather of a city', input_schema: weatherTool.function.parameters },
    ]);
    expect(body.tool_choice).toEqual({ type: 'auto' });
  });

  it('passes image URLs on', async () => {
    const url = 'https://example.com/cat.png';
    const body = await sent({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }] });
    expect(body.messages[0].content).toEqual([{ type: 'image', source: { type: 'url', url } }]);
  });

  it('always has an output limit: the caller’s, the demanded one, or the model’s', async () => {
    expect((await sent({ max_completion_tokens: 9, max_tokens: 8 })).max_tokens).toBe(9);
    expect((await sent({})).max_tokens).toBe(4_096);
    await adapter.complete(request(), call({ outputLimit: 7 }));
    expect(server.last.body.max_tokens).toBe(7);
  });

  it.each<[Partial<ModelRequest>, object]>([
    [{ stop: 'END' }, { stop_sequences: ['END'] }],
    [
      { stop: ['A', 'B'], temperature: 0, top_p: 0.9 },
      { stop_sequences: ['A', 'B'], temperature: 0, top_p: 0.9 },
    ],
    [{ user: 'u-1' }, { metadata: { user_id: 'u-1' } }],
    [{ tools: [weatherTool], tool_choice: 'required' }, { tool_choice: { type: 'any' } }],
    [{ tools: [weatherTool], tool_choice: 'none' }, { tool_choice: { type: 'none' } }],
    [
      {
        tools: [weatherTool],
        tool_choice: { type: 'function', function: { name: 'get_weather' } },
        parallel_tool_calls: false,
      },
      { tool_choice: { type: 'tool', name: 'get_weather', disable_parallel_tool_use: true } },
    ],
    [
      { response_format: { type: 'json_schema', json_schema: { name: 's', schema: { type: 'object' } } } },
      { output_config: { format: { type: 'json_schema', schema: { type: 'object' } } } },
    ],
  ])('translates %j', async (overrides, expected) => {
    expect(await sent(overrides)).toMatchObject(expected);
  });

  it('leaves out a default temperature, which the API refuses, and takes the version that has it for another', async () => {
    expect(await sent({ temperature: 1, top_p: 1 })).not.toHaveProperty('temperature');
    expect(server.last.headers['anthropic-version']).not.toBe('2023-06-01');
    expect(await sent({ temperature: 0.3 })).toMatchObject({ temperature: 0.3 });
    expect(server.last.headers['anthropic-version']).toBe('2023-06-01');
  });

  it('thinks within a budget up to Claude 4.5 and by effort after it', async () => {
    expect(await sent({ reasoning_effort: 'medium', max_tokens: 20_000 })).toMatchObject({
      thinking: { type: 'enabled', budget_tokens: 8_192 },
    });
    expect((await sent({ reasoning_effort: 'high', max_tokens: 3_000 })).thinking.budget_tokens).toBe(1_976);
    expect(await sent({ reasoning_effort: 'high', max_tokens: 1_500 })).not.toHaveProperty('thinking');
    expect(await sent({ reasoning_effort: 'low' }, 'claude-opus-4-7')).toMatchObject({
      thinking: { type: 'adaptive' },
      output_config: { effort: 'low' },
    });
    expect(await sent({ reasoning_effort: 'none' })).toMatchObject({ thinking: { type: 'disabled' } });
  });

  it('does not start to think in the middle of a tool exchange', async () => {
    const messages = fullConversation.slice(0, 5);
    expect(await sent({ messages, reasoning_effort: 'high' })).toMatchObject({ thinking: { type: 'disabled' } });
  });

  it('with tool arguments that are no JSON object is the caller’s mistake', async () => {
    const toolCall = { id: 'c', type: 'function' as const, function: { name: 'f', arguments: '[1' } };
    await expect(sent({ messages: [{ role: 'assistant', tool_calls: [toolCall] }] })).rejects.toMatchObject({
      code: 'caller_invalid_request',
      param: 'messages[0].tool_calls[0].function.arguments',
    });
  });
});

describe('an answer', () => {
  it('counts cached tokens as input', async () => {
    const answer = await adapter.complete(request(), call());
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello!' },
        finish_reason: 'stop',
        native_finish_reason: 'end_turn',
      },
    ]);
    expect(answer.usage).toEqual({
      inputTokens: 115,
      cachedInputTokens: 100,
      cacheWriteTokens: 3,
      outputTokens: 6,
      reasoningTokens: 2,
      estimated: false,
    });
  });

  it('carries thinking and tool calls', async () => {
    const content = [
      { type: 'thinking', thinking: 'hm', signature: 'x' },
      { type: 'tool_use', id: 'toolu_1', name: 'get_weather', input: { city: 'Paris' } },
    ];
    server.reply = () => ({ body: { ...message, content, stop_reason: 'tool_use' } });
    expect((await adapter.complete(request(), call())).choices[0]).toMatchObject({
      message: {
        content: null,
        reasoning_content: 'hm',
        tool_calls: [
          { id: 'toolu_1', type: 'function', function: { name: 'get_weather', arguments: '{"city":"Paris"}' } },
        ],
      },
      finish_reason: 'tool_calls',
    });
  });

  it.each([
    ['max_tokens', 'length'],
    ['model_context_window_exceeded', 'length'],
    ['stop_sequence', 'stop'],
    ['pause_turn', 'stop'],
  ])('that stopped for %s finished by %s', async (stop_reason, finish_reason) => {
    server.reply = () => ({ body: { ...message, stop_reason } });
    expect((await adapter.complete(request(), call())).choices[0]).toMatchObject({
      finish_reason,
      native_finish_reason: stop_reason,
    });
  });

  it('that is a refusal tells the caller', async () => {
    const stop_details = { type: 'refusal', category: 'bio', explanation: 'Not this.' };
    server.reply = () => ({ body: { ...message, content: [], stop_reason: 'refusal', stop_details } });
    expect((await adapter.complete(request(), call())).choices[0]).toMatchObject({
      message: { content: null, refusal: 'Not this.' },
      finish_reason: 'content_filter',
    });
  });
});

describe('a stream', () => {
  const opening = {
    type: 'message_start',
    message: { ...message, content: [], stop_reason: null, usage: { ...message.usage, output_tokens: 1 } },
  };
  const block = (index: number, content_block: object) => ({ type: 'content_block_start', index, content_block });
  const delta = (index: number, fields: object) => ({ type: 'content_block_delta', index, delta: fields });
  const end = (index: number) => ({ type: 'content_block_stop', index });

  it('yields thinking, text, parallel tools and usage as they come', async () => {
    server.reply = () => ({
      chunks: sse(
        opening,
        block(0, { type: 'thinking', thinking: '', signature: '' }),
        delta(0, { type: 'thinking_delta', thinking: 'hm' }),
        delta(0, { type: 'signature_delta', signature: 'x' }),
        end(0),
        { type: 'ping' },
        block(1, { type: 'text', text: '' }),
        delta(1, { type: 'text_delta', text: 'Hel' }),
        delta(1, { type: 'text_delta', text: 'lo' }),
        end(1),
        block(2, { type: 'tool_use', id: 'toolu_1', name: 'get_weather', input: {} }),
        delta(2, { type: 'input_json_delta', partial_json: '' }),
        delta(2, { type: 'input_json_delta', partial_json: '{"city":"Paris"}' }),
        end(2),
        block(3, { type: 'tool_use', id: 'toolu_2', name: 'now', input: {} }),
        end(3),
        {
          type: 'message_delta',
          delta: { stop_reason: 'tool_use', stop_sequence: null },
          usage: { output_tokens: 15 },
        },
        { type: 'message_stop' },
      ),
    });
    const events = await collect(adapter.stream(request(), call()));
    const tools = (...tool_calls: object[]) => ({ type: 'delta', choices: [{ index: 0, delta: { tool_calls } }] });
    const text = (fields: object) => ({ type: 'delta', choices: [{ index: 0, delta: fields }] });
    expect(events).toEqual([
      { type: 'start', model: 'claude-sonnet-4-5-20250929' },
      { type: 'usage', final: false, usage: expect.objectContaining({ inputTokens: 115, outputTokens: 1 }) },
      text({ reasoning_content: 'hm' }),
      text({ content: 'Hel' }),
      text({ content: 'lo' }),
      tools({ index: 0, id: 'toolu_1', type: 'function', function: { name: 'get_weather', arguments: '' } }),
      tools({ index: 0, function: { arguments: '{"city":"Paris"}' } }),
      tools({ index: 1, id: 'toolu_2', type: 'function', function: { name: 'now', arguments: '' } }),
      tools({ index: 1, function: { arguments: '{}' } }),
      { type: 'usage', final: true, usage: expect.objectContaining({ inputTokens: 115, outputTokens: 15 }) },
      { type: 'finish', index: 0, reason: 'tool_calls', native: 'tool_use' },
    ]);
  });

  it('turns an error inside the stream into the taxonomy', async () => {
    const error = { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } };
    server.reply = () => ({ chunks: sse(opening, error) });
    await expect(collect(adapter.stream(request(), call()))).rejects.toMatchObject({ code: 'provider_overloaded' });
  });
});

describe('an error', () => {
  it.each([
    [400, 'invalid_request_error', 'messages: text content blocks must be non-empty', 'provider_invalid_request'],
    [400, 'invalid_request_error', 'prompt is too long: 213462 tokens > 200000 maximum', 'provider_context_length'],
    [
      400,
      'invalid_request_error',
      'Your credit balance is too low to access the Anthropic API.',
      'provider_quota_exhausted',
    ],
    [401, 'authentication_error', 'invalid x-api-key', 'provider_auth'],
    [403, 'permission_error', 'not allowed', 'provider_auth'],
    [404, 'not_found_error', 'model: claude-9', 'provider_model_not_found'],
    [413, 'request_too_large', 'Request exceeds the maximum size', 'provider_context_length'],
    [429, 'rate_limit_error', 'Number of requests has exceeded your limit', 'provider_rate_limited'],
    [500, 'api_error', 'Internal server error', 'provider_server_error'],
    [504, 'timeout_error', 'Request timed out', 'provider_timeout'],
    [529, 'overloaded_error', 'Overloaded', 'provider_overloaded'],
  ])('%i %s (%s) is %s', async (status, type, text, code) => {
    server.reply = () => ({ status, body: { type: 'error', error: { type, message: text } } });
    await expect(adapter.complete(request(), call())).rejects.toMatchObject({ code, maybeBilled: false });
    expect(server.received).toHaveLength(1);
  });
});

describe('the provider’s limits', () => {
  const limit = (kind: string, max: number, remaining: number, seconds: number) => ({
    [`anthropic-ratelimit-${kind}-limit`]: String(max),
    [`anthropic-ratelimit-${kind}-remaining`]: String(remaining),
    [`anthropic-ratelimit-${kind}-reset`]: new Date(Date.now() + seconds * 1_000).toISOString(),
  });
  const near = (ms: number) => expect.closeTo(ms, -4);
  const said = async (headers: Record<string, string>, status = 200) => {
    const reports: unknown[] = [];
    server.reply = () => ({ status, headers, body: status === 200 ? message : {} });
    const calling = adapter.complete(request(), call({ onLimits: (report) => reports.push(report) }));
    await calling.catch(() => {});
    return reports;
  };

  it('are handed up from answers and refusals', async () => {
    const headers = { ...limit('requests', 50, 49, 1), ...limit('tokens', 90_000, 80_000, 20) };
    const report = {
      requests: { limit: 50, remaining: 49, resetMs: near(1_000) },
      tokens: { limit: 90_000, remaining: 80_000, resetMs: near(20_000) },
    };
    expect(await said(headers)).toEqual([report]);
    expect(await said(headers, 429)).toEqual([report]);
  });

  it('of input stand for tokens, and an output that is used up is a pause', async () => {
    const input = limit('input-tokens', 40_000, 10, 30);
    const tokens = { limit: 40_000, remaining: 10, resetMs: near(30_000) };
    expect(await said({ ...input, ...limit('output-tokens', 8_000, 1, 60) })).toEqual([{ tokens }]);
    expect(await said({ ...input, ...limit('output-tokens', 8_000, 0, 60) })).toEqual([{ tokens, pauseMs: 5_000 }]);
  });

  it('are in the headers of a stream', async () => {
    const reports: unknown[] = [];
    const stop = { type: 'message_stop' };
    server.reply = () => ({
      chunks: sse({ type: 'message_start', message }, stop),
      headers: limit('requests', 50, 1, 1),
    });
    await collect(adapter.stream(request(), call({ onLimits: (report) => reports.push(report) })));
    expect(reports).toMatchObject([{ requests: { limit: 50, remaining: 1 } }]);
  });
});
