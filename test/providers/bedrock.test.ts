import { EventStreamCodec } from '@smithy/core/event-streams';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ModelRequest } from '../../domain/chat.ts';
import type { ProviderAdapter } from '../../providers/adapter.ts';
import { adapterOf, call, collect, fullConversation, request, weatherTool } from '../support/adapters.ts';
import { FixtureServer } from '../support/fixture-server.ts';

const MODEL = 'anthropic.claude-sonnet-4-5-20250929-v1:0';
const converse = {
  output: { message: { role: 'assistant', content: [{ text: 'Hello!' }] } },
  stopReason: 'end_turn',
  usage: { inputTokens: 12, outputTokens: 6, totalTokens: 121, cacheReadInputTokens: 100, cacheWriteInputTokens: 3 },
  metrics: { latencyMs: 551 },
};

const codec = new EventStreamCodec(
  (bytes) => Buffer.from(bytes as Uint8Array).toString(),
  (text) => Buffer.from(text),
);
/** A frame of the AWS event stream, as ConverseStream sends it. */
const frame = (type: string, body: object, kind: 'event' | 'exception' = 'event'): Buffer =>
  Buffer.from(
    codec.encode({
      headers: {
        ':message-type': { type: 'string', value: kind },
        [kind === 'event' ? ':event-type' : ':exception-type']: { type: 'string', value: type },
        ':content-type': { type: 'string', value: 'application/json' },
      },
      body: Buffer.from(JSON.stringify(body)),
    }),
  );

const server = new FixtureServer();
let adapter: ProviderAdapter;
beforeAll(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAIOSFODNN7EXAMPLE');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wJalrXUtnFEMI');
  await server.start();
  adapter = adapterOf({ type: 'bedrock', region: 'eu-west-1', endpoint: server.url });
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await server.stop();
});
beforeEach(() => {
  server.reset();
  server.reply = () => ({ body: converse });
});

async function sent(overrides: Partial<ModelRequest>, model = MODEL) {
  await adapter.complete(request(overrides), call({ model }));
  return server.last.body;
}

describe('a request', () => {
  it('is signed for the region and carries everything in Converse’s shape', async () => {
    const body = await sent({ messages: fullConversation, tools: [weatherTool] });
    expect(server.last.path).toBe(`/model/${MODEL}/converse`);
    expect(server.last.headers.authorization).toMatch(/^AWS4-HMAC-SHA256 .*\/eu-west-1\/bedrock\//);
    expect(body.system).toEqual([{ text: 'Be brief.\n\nAnswer in English.' }]);
    expect(body.messages).toEqual([
      {
        role: 'user',
        content: [{ text: 'What is this?' }, { image: { format: 'png', source: { bytes: 'aGVsbG8=' } } }],
      },
      {
        role: 'assistant',
        content: [
          { text: 'Let me look.' },
          { toolUse: { toolUseId: 'call_1', name: 'zoom', input: { factor: 2 } } },
          { toolUse: { toolUseId: 'call_2', name: 'identify', input: {} } },
        ],
      },
      {
        role: 'user',
        content: [
          { toolResult: { toolUseId: 'call_1', content: [{ text: 'zoomed' }] } },
          { toolResult: { toolUseId: 'call_2', content: [{ text: 'a cat' }] } },
          { text: 'And now?' },
        ],
      },
    ]);
    const { name, description, parameters } = weatherTool.function;
    expect(body.toolConfig).toEqual({
      tools: [{ toolSpec: { name, description, inputSchema: { json: parameters } } }],
    });
  });

  it.each<[Partial<ModelRequest>, object]>([
    [
      { max_tokens: 9, temperature: 0, top_p: 0.9, stop: 'END' },
      { inferenceConfig: { maxTokens: 9, temperature: 0, topP: 0.9, stopSequences: ['END'] } },
    ],
    [{ tools: [weatherTool], tool_choice: 'required' }, { toolConfig: { toolChoice: { any: {} } } }],
    [
      { tools: [weatherTool], tool_choice: { type: 'function', function: { name: 'get_weather' } } },
      { toolConfig: { toolChoice: { tool: { name: 'get_weather' } } } },
    ],
    [
      { response_format: { type: 'json_schema', json_schema: { name: 's', schema: { type: 'object' } } } },
      {
        outputConfig: {
          textFormat: { type: 'json_schema', structure: { jsonSchema: { name: 's', schema: '{"type":"object"}' } } },
        },
      },
    ],
    [
      { reasoning_effort: 'low', max_tokens: 9_000 },
      { additionalModelRequestFields: { thinking: { type: 'enabled', budget_tokens: 2_048 } } },
    ],
  ])('translates %j', async (overrides, expected) => {
    expect(await sent(overrides)).toMatchObject(expected);
  });

  it('leaves tools out for tool_choice none, unless earlier turns used them', async () => {
    const none = { tools: [weatherTool], tool_choice: 'none' as const };
    expect(await sent(none)).not.toHaveProperty('toolConfig');
    expect(await sent({ ...none, messages: fullConversation })).toHaveProperty('toolConfig.tools');
  });

  it('refuses an image format that Bedrock does not have', async () => {
    const image_url = { url: 'data:image/tiff;base64,AA==' };
    await expect(
      sent({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url }] }] }),
    ).rejects.toMatchObject({
      code: 'caller_unsupported_parameter',
      param: 'messages[0].content[0]',
    });
  });
});

describe('an answer', () => {
  it('counts cached tokens as input', async () => {
    const answer = await adapter.complete(request(), call({ model: MODEL }));
    expect(answer).toMatchObject({
      model: MODEL,
      choices: [{ message: { content: 'Hello!' }, finish_reason: 'stop', native_finish_reason: 'end_turn' }],
      usage: { inputTokens: 115, cachedInputTokens: 100, cacheWriteTokens: 3, outputTokens: 6, estimated: false },
    });
  });

  it('carries reasoning and tool calls', async () => {
    const content = [
      { reasoningContent: { reasoningText: { text: 'hm', signature: 'x' } } },
      { toolUse: { toolUseId: 'tooluse_1', name: 'get_weather', input: { city: 'Paris' } } },
    ];
    server.reply = () => ({
      body: { ...converse, output: { message: { role: 'assistant', content } }, stopReason: 'tool_use' },
    });
    expect((await adapter.complete(request(), call())).choices[0]).toMatchObject({
      message: {
        content: null,
        reasoning_content: 'hm',
        tool_calls: [
          { id: 'tooluse_1', type: 'function', function: { name: 'get_weather', arguments: '{"city":"Paris"}' } },
        ],
      },
      finish_reason: 'tool_calls',
    });
  });

  it.each([
    ['max_tokens', 'length'],
    ['stop_sequence', 'stop'],
    ['guardrail_intervened', 'content_filter'],
    ['content_filtered', 'content_filter'],
  ])('that stopped for %s finished by %s', async (stopReason, finish_reason) => {
    server.reply = () => ({ body: { ...converse, stopReason } });
    expect((await adapter.complete(request(), call())).choices[0]).toMatchObject({ finish_reason });
  });
});

describe('a stream', () => {
  const streamed = (...frames: Buffer[]) => {
    server.reply = () => ({ headers: { 'content-type': 'application/vnd.amazon.eventstream' }, chunks: frames });
    return collect(adapter.stream(request(), call({ model: MODEL })));
  };

  it('yields reasoning, text, tools and usage as they come', async () => {
    const events = await streamed(
      frame('messageStart', { role: 'assistant' }),
      frame('contentBlockDelta', { contentBlockIndex: 0, delta: { reasoningContent: { text: 'hm' } } }),
      frame('contentBlockStop', { contentBlockIndex: 0 }),
      frame('contentBlockDelta', { contentBlockIndex: 1, delta: { text: 'Hel' } }),
      frame('contentBlockDelta', { contentBlockIndex: 1, delta: { text: 'lo' } }),
      frame('contentBlockStop', { contentBlockIndex: 1 }),
      frame('contentBlockStart', {
        contentBlockIndex: 2,
        start: { toolUse: { toolUseId: 't1', name: 'get_weather' } },
      }),
      frame('contentBlockDelta', { contentBlockIndex: 2, delta: { toolUse: { input: '{"city":"Paris"}' } } }),
      frame('contentBlockStop', { contentBlockIndex: 2 }),
      frame('contentBlockStart', { contentBlockIndex: 3, start: { toolUse: { toolUseId: 't2', name: 'now' } } }),
      frame('contentBlockStop', { contentBlockIndex: 3 }),
      frame('messageStop', { stopReason: 'tool_use' }),
      frame('metadata', { usage: converse.usage, metrics: { latencyMs: 1 } }),
    );
    const tools = (...tool_calls: object[]) => ({ type: 'delta', choices: [{ index: 0, delta: { tool_calls } }] });
    const text = (fields: object) => ({ type: 'delta', choices: [{ index: 0, delta: fields }] });
    expect(server.last.path).toBe(`/model/${MODEL}/converse-stream`);
    expect(events).toEqual([
      { type: 'start', model: MODEL },
      text({ reasoning_content: 'hm' }),
      text({ content: 'Hel' }),
      text({ content: 'lo' }),
      tools({ index: 0, id: 't1', type: 'function', function: { name: 'get_weather', arguments: '' } }),
      tools({ index: 0, function: { arguments: '{"city":"Paris"}' } }),
      tools({ index: 1, id: 't2', type: 'function', function: { name: 'now', arguments: '' } }),
      tools({ index: 1, function: { arguments: '{}' } }),
      { type: 'finish', index: 0, reason: 'tool_calls', native: 'tool_use' },
      { type: 'usage', final: true, usage: expect.objectContaining({ inputTokens: 115, outputTokens: 6 }) },
    ]);
  });

  it('turns an exception inside the stream into the taxonomy', async () => {
    const start = frame('messageStart', { role: 'assistant' });
    await expect(streamed(start, frame('throttlingException', { message: 'slow' }, 'exception'))).rejects.toMatchObject(
      {
        code: 'provider_rate_limited',
      },
    );
    await expect(
      streamed(start, frame('modelStreamErrorException', { message: 'x' }, 'exception')),
    ).rejects.toMatchObject({
      code: 'provider_server_error',
    });
  });
});

describe('an error', () => {
  it.each([
    [400, 'ValidationException', 'Malformed input request', 'provider_invalid_request'],
    [400, 'ValidationException', 'Input is too long for requested model.', 'provider_context_length'],
    [400, 'ValidationException', 'The provided model identifier is invalid.', 'provider_model_not_found'],
    [
      400,
      'ValidationException',
      'Invocation of model ID x with on-demand throughput isn’t supported.',
      'provider_model_not_found',
    ],
    [400, 'ServiceQuotaExceededException', 'quota', 'provider_quota_exhausted'],
    [403, 'AccessDeniedException', 'no access to the model', 'provider_auth'],
    [403, 'UnrecognizedClientException', 'The security token included in the request is invalid.', 'provider_auth'],
    [404, 'ResourceNotFoundException', 'gone', 'provider_model_not_found'],
    [408, 'ModelTimeoutException', 'late', 'provider_timeout'],
    [424, 'ModelErrorException', 'broken', 'provider_server_error'],
    [429, 'ThrottlingException', 'Too many tokens, please wait before trying again.', 'provider_rate_limited'],
    [429, 'ModelNotReadyException', 'warming up', 'provider_overloaded'],
    [500, 'InternalServerException', 'oops', 'provider_server_error'],
    [503, 'ServiceUnavailableException', 'busy', 'provider_overloaded'],
  ])('%i %s (%s) is %s', async (status, type, text, code) => {
    server.reply = () => ({ status, headers: { 'x-amzn-errortype': type }, body: { message: text } });
    await expect(adapter.complete(request(), call())).rejects.toMatchObject({ code, maybeBilled: false });
    expect(server.received).toHaveLength(1);
  });

  it('of throttling teaches a short pause, others nothing', async () => {
    const reports: unknown[] = [];
    const listening = () => call({ onLimits: (report) => reports.push(report) });
    for (const [status, type] of [
      [429, 'ThrottlingException'],
      [500, 'InternalServerException'],
    ] as const) {
      server.reply = () => ({ status, headers: { 'x-amzn-errortype': type }, body: { message: 'no' } });
      await expect(adapter.complete(request(), listening())).rejects.toThrow();
      await expect(collect(adapter.stream(request(), listening()))).rejects.toThrow();
    }
    expect(reports).toEqual([{ pauseMs: 1_000 }, { pauseMs: 1_000 }]);
  });
});

describe('a probe', () => {
  it('takes any answer of the endpoint for life', async () => {
    server.reply = () => ({ status: 403 });
    await expect(adapter.probe(new AbortController().signal)).resolves.toBeUndefined();
    const gone = await new FixtureServer().start();
    const nowhere = adapterOf({ type: 'bedrock', region: 'eu-west-1', endpoint: gone.url });
    await gone.stop();
    await expect(nowhere.probe(new AbortController().signal)).rejects.toMatchObject({ code: 'provider_network' });
  });
});
