import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ProviderAdapter } from '../../providers/adapter.ts';
import { adapterOf, call, collect, request, weatherTool } from '../support/adapters.ts';
import { FixtureServer, sse } from '../support/fixture-server.ts';

const completion = {
  id: 'chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT',
  object: 'chat.completion',
  created: 1741569952,
  model: 'gpt-5-mini-2025-08-07',
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content: 'Hello!', refusal: null, annotations: [] },
      logprobs: null,
      finish_reason: 'stop',
    },
  ],
  usage: {
    prompt_tokens: 19,
    completion_tokens: 10,
    total_tokens: 29,
    prompt_tokens_details: { cached_tokens: 8, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 4, audio_tokens: 0, accepted_prediction_tokens: 0 },
  },
  service_tier: 'default',
  system_fingerprint: 'fp_44709d6fcb',
};
const chunk = (choices: object[], extra: object = {}) => ({
  id: 'chatcmpl-123',
  object: 'chat.completion.chunk',
  created: 1694268190,
  model: 'gpt-5-mini-2025-08-07',
  system_fingerprint: 'fp_44709d6fcb',
  choices,
  ...extra,
});
const choice = (delta: object, finish_reason: string | null = null, index = 0) => ({
  index,
  delta,
  logprobs: null,
  finish_reason,
});

const server = new FixtureServer();
let adapter: ProviderAdapter;
beforeAll(async () => {
  await server.start();
  adapter = adapterOf({ type: 'openai', base_url: `${server.url}/v1`, api_key: 'sk-test' });
});
afterAll(() => server.stop());
beforeEach(() => server.reset());

describe('a request', () => {
  it('goes out as it came in, unknown fields included, with the target’s model and the gateway’s key', async () => {
    server.reply = () => ({ body: completion });
    const sent = request({ temperature: 0.2, tools: [weatherTool], seed: 1, prediction: { type: 'content' } });
    await adapter.complete(sent, call());
    expect(server.last).toMatchObject({ path: '/v1/chat/completions', headers: { authorization: 'Bearer sk-test' } });
    expect(server.last.body).toEqual({ ...sent, model: 'the-model' });
  });

  it('gets an output limit only where one is demanded and the caller set none', async () => {
    server.reply = () => ({ body: completion });
    await adapter.complete(request(), call({ outputLimit: 77 }));
    expect(server.last.body).toMatchObject({ max_tokens: 77 });
    await adapter.complete(request({ max_completion_tokens: 5 }), call({ outputLimit: 77 }));
    expect(server.last.body).toMatchObject({ max_completion_tokens: 5 });
    expect(server.last.body).not.toHaveProperty('max_tokens');
  });

  it('is never retried by the SDK', async () => {
    server.reply = () => ({ status: 500, body: {} });
    await expect(adapter.complete(request(), call())).rejects.toThrow();
    expect(server.received).toHaveLength(1);
  });
});

describe('an answer', () => {
  it('keeps message, finish reason, cached and reasoning tokens, and fields beyond the standard', async () => {
    server.reply = () => ({ body: completion });
    expect(await adapter.complete(request(), call())).toEqual({
      model: 'gpt-5-mini-2025-08-07',
      choices: [
        {
          index: 0,
          message: completion.choices[0]?.message,
          finish_reason: 'stop',
          native_finish_reason: 'stop',
        },
      ],
      usage: {
        inputTokens: 19,
        cachedInputTokens: 8,
        cacheWriteTokens: 0,
        outputTokens: 10,
        reasoningTokens: 4,
        estimated: false,
      },
      extra: { service_tier: 'default', system_fingerprint: 'fp_44709d6fcb' },
    });
  });

  it('counts reasoning that a provider bills outside of completion_tokens', async () => {
    const usage = {
      prompt_tokens: 10,
      completion_tokens: 5,
      total_tokens: 45,
      completion_tokens_details: { reasoning_tokens: 30 },
    };
    server.reply = () => ({ body: { ...completion, usage } });
    expect((await adapter.complete(request(), call())).usage).toMatchObject({ outputTokens: 35, reasoningTokens: 30 });
  });

  it('counts audio tokens of input and output', async () => {
    const usage = {
      prompt_tokens: 30,
      completion_tokens: 40,
      total_tokens: 70,
      prompt_tokens_details: { audio_tokens: 20 },
      completion_tokens_details: { audio_tokens: 35 },
    };
    server.reply = () => ({ body: { ...completion, usage } });
    expect((await adapter.complete(request(), call())).usage).toMatchObject({
      inputTokens: 30,
      audioInputTokens: 20,
      outputTokens: 40,
      audioOutputTokens: 35,
    });
  });

  it('says so when the provider reports no usage', async () => {
    server.reply = () => ({ body: { ...completion, usage: undefined } });
    expect((await adapter.complete(request(), call())).usage).toBeNull();
  });
});

describe('a stream', () => {
  it('asks for usage and yields text, refusal, reasoning and logprobs as they come', async () => {
    server.reply = () => ({
      chunks: sse(
        chunk([choice({ role: 'assistant', content: '' })]),
        chunk([{ ...choice({ content: 'Hel' }), logprobs: { content: [{ token: 'Hel', logprob: -0.1 }] } }]),
        chunk([choice({ reasoning_content: 'hm' })]),
        chunk([choice({ refusal: 'no' }), choice({ content: 'B' }, null, 1)]),
        chunk([choice({}, 'stop')]),
        chunk([choice({}, 'length', 1)]),
        chunk([], { usage: completion.usage }),
        '[DONE]',
      ),
    });
    const events = await collect(adapter.stream(request(), call()));
    expect(server.last.body).toMatchObject({ stream: true, stream_options: { include_usage: true } });
    expect(events).toEqual([
      { type: 'start', model: 'gpt-5-mini-2025-08-07', extra: { system_fingerprint: 'fp_44709d6fcb' } },
      {
        type: 'delta',
        choices: [{ index: 0, delta: { content: 'Hel' }, logprobs: { content: [{ token: 'Hel', logprob: -0.1 }] } }],
      },
      { type: 'delta', choices: [{ index: 0, delta: { reasoning_content: 'hm' } }] },
      {
        type: 'delta',
        choices: [
          { index: 0, delta: { refusal: 'no' } },
          { index: 1, delta: { content: 'B' } },
        ],
      },
      { type: 'finish', index: 0, reason: 'stop', native: 'stop' },
      { type: 'finish', index: 1, reason: 'length', native: 'length' },
      { type: 'usage', final: true, usage: expect.objectContaining({ inputTokens: 19, outputTokens: 10 }) },
    ]);
  });

  it('yields tool calls piece by piece', async () => {
    const first = { index: 0, id: 'call_a', type: 'function', function: { name: 'get_weather', arguments: '' } };
    server.reply = () => ({
      chunks: sse(
        chunk([choice({ role: 'assistant', content: null, tool_calls: [first] })]),
        chunk([choice({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] })]),
        chunk([choice({ tool_calls: [{ index: 0, function: { arguments: '"Paris"}' } }] })]),
        chunk([choice({}, 'tool_calls')]),
        '[DONE]',
      ),
    });
    const events = await collect(adapter.stream(request({ tools: [weatherTool] }), call()));
    const calls = events.flatMap((event) => (event.type === 'delta' ? (event.choices[0]?.delta.tool_calls ?? []) : []));
    expect(calls).toEqual([
      first,
      { index: 0, function: { arguments: '{"city":' } },
      { index: 0, function: { arguments: '"Paris"}' } },
    ]);
    expect(events.at(-1)).toMatchObject({ type: 'finish', reason: 'tool_calls' });
  });

  it('turns an error inside the stream into the taxonomy', async () => {
    server.reply = () => ({
      chunks: sse(chunk([choice({ content: 'He' })]), { error: { code: 'server_error', message: 'boom' } }),
    });
    await expect(collect(adapter.stream(request(), call()))).rejects.toMatchObject({ code: 'provider_server_error' });
  });
});

describe('an error', () => {
  const body = (fields: object) => ({
    error: { message: 'why', type: 'invalid_request_error', param: null, code: null, ...fields },
  });
  it.each([
    [400, body({ param: 'messages[0].content' }), 'provider_invalid_request'],
    [400, body({ code: 'context_length_exceeded' }), 'provider_context_length'],
    [400, body({ code: 'content_filter' }), 'provider_content_filtered'],
    [401, body({ code: 'invalid_api_key' }), 'provider_auth'],
    [403, body({ code: 'unsupported_country_region_territory' }), 'provider_auth'],
    [404, body({ code: 'model_not_found' }), 'provider_model_not_found'],
    [408, body({}), 'provider_timeout'],
    [413, body({}), 'provider_context_length'],
    [429, body({ type: 'requests', code: 'rate_limit_exceeded' }), 'provider_rate_limited'],
    [429, body({ type: 'insufficient_quota', code: 'insufficient_quota' }), 'provider_quota_exhausted'],
    [500, body({ type: 'server_error' }), 'provider_server_error'],
    [502, '<html>bad gateway</html>', 'provider_server_error'],
    [503, body({ type: 'server_error', message: 'overloaded' }), 'provider_overloaded'],
  ])('%i %j is %s', async (status, reply, code) => {
    server.reply = () => ({ status, body: typeof reply === 'string' ? Buffer.from(reply) : reply });
    await expect(adapter.complete(request(), call())).rejects.toMatchObject({ code, maybeBilled: false });
  });

  it('names the parameter of an invalid request', async () => {
    server.reply = () => ({ status: 400, body: body({ param: 'messages[0].content' }) });
    await expect(adapter.complete(request(), call())).rejects.toMatchObject({ param: 'messages[0].content' });
  });

  it.each([
    [{ 'retry-after': '3' }, 3_000],
    [{ 'retry-after-ms': '250', 'retry-after': '3' }, 250],
    [{ 'retry-after': new Date(Date.now() + 60_000).toUTCString() }, expect.closeTo(60_000, -4)],
  ])('carries the wait of %j', async (headers, retryAfterMs) => {
    server.reply = () => ({ status: 429, headers, body: body({}) });
    await expect(adapter.complete(request(), call())).rejects.toMatchObject({ retryAfterMs });
  });

  it('never shows a key', async () => {
    const message = 'Incorrect API key provided: sk-proj-abcdefghijklmnop. Find it at …';
    for (const status of [400, 401]) {
      server.reply = () => ({ status, body: body({ message }) });
      const error = await adapter.complete(request(), call()).catch((thrown: Error) => thrown);
      expect((error as Error).message).not.toContain('abcdefghijklmnop');
    }
  });

  it('of the network says whether the provider may have got the request', async () => {
    const gone = await new FixtureServer().start();
    const nowhere = adapterOf({ type: 'openai', base_url: gone.url });
    await gone.stop();
    await expect(nowhere.complete(request(), call())).rejects.toMatchObject({
      code: 'provider_network',
      maybeBilled: false,
    });
    server.reply = () => ({ chunks: sse(chunk([choice({ content: 'He' })])), cut: true });
    await expect(collect(adapter.stream(request(), call()))).rejects.toMatchObject({
      code: 'provider_network',
      maybeBilled: true,
    });
  });
});

describe('a probe', () => {
  it('lists models and tells a refused key', async () => {
    server.reply = () => ({ body: { object: 'list', data: [] } });
    await adapter.probe(new AbortController().signal);
    expect(server.last.path).toBe('/v1/models');
    server.reply = () => ({ status: 401, body: {} });
    await expect(adapter.probe(new AbortController().signal)).rejects.toMatchObject({ code: 'provider_auth' });
  });
});

describe('the provider’s limits', () => {
  const headers = {
    'x-ratelimit-limit-requests': '500',
    'x-ratelimit-remaining-requests': '499',
    'x-ratelimit-reset-requests': '120ms',
    'x-ratelimit-limit-tokens': '30000',
    'x-ratelimit-remaining-tokens': '0',
    'x-ratelimit-reset-tokens': '6m0.5s',
  };
  const report = {
    requests: { limit: 500, remaining: 499, resetMs: 120 },
    tokens: { limit: 30_000, remaining: 0, resetMs: 360_500 },
  };
  const reports: unknown[] = [];
  const listening = () => ({ ...call(), onLimits: (said: unknown) => reports.push(said) });
  beforeEach(() => {
    reports.length = 0;
  });

  it('are handed up from answers, streams and refusals', async () => {
    server.reply = () => ({ body: completion, headers });
    await adapter.complete(request(), listening());
    server.reply = () => ({ chunks: sse(chunk([choice({ content: 'a' }, 'stop')]), '[DONE]'), headers });
    await collect(adapter.stream(request(), listening()));
    server.reply = () => ({ status: 429, body: {}, headers });
    await expect(adapter.complete(request(), listening())).rejects.toMatchObject({ code: 'provider_rate_limited' });
    expect(reports).toEqual([report, report, report]);
  });

  it.each([
    [{}, {}],
    [{ 'x-ratelimit-limit-requests': 'many' }, {}],
    [{ 'x-ratelimit-limit-requests': '10', 'x-ratelimit-reset-requests': 'soon' }, { requests: { limit: 10 } }],
    [
      { 'x-ratelimit-limit-requests': '10', 'x-ratelimit-reset-requests': '2' },
      { requests: { limit: 10, resetMs: 2_000 } },
    ],
  ])('in %j are %j', async (odd, said) => {
    server.reply = () => ({ body: completion, headers: odd as Record<string, string> });
    await adapter.complete(request(), listening());
    expect(reports).toEqual([said]);
  });
});
