import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ProviderBatches } from '../../providers/batches.ts';
import { adapterOf, call, request } from '../support/adapters.ts';
import { batchCall, batchesOf, ends, jsonl, line } from '../support/batches.ts';
import { FixtureServer } from '../support/fixture-server.ts';

const counts = { processing: 0, succeeded: 0, errored: 0, canceled: 0, expired: 0 };
const batch = (overrides: object = {}) => ({
  id: 'msgbatch_013Zva2CMHLNnXjNJJKqJ2EF',
  type: 'message_batch',
  processing_status: 'in_progress',
  request_counts: { ...counts, processing: 100 },
  ended_at: null,
  created_at: '2026-09-24T18:37:24.100435Z',
  expires_at: '2026-09-25T18:37:24.100435Z',
  archived_at: null,
  cancel_initiated_at: null,
  results_url: null,
  ...overrides,
});
const message = (text: string) => ({
  id: 'msg_014VwiXbi91y3JMjcpyGBHX5',
  type: 'message',
  role: 'assistant',
  model: 'claude-opus-4-7',
  content: [{ type: 'text', text }],
  stop_reason: 'end_turn',
  stop_sequence: null,
  usage: {
    input_tokens: 12,
    cache_creation_input_tokens: 3,
    cache_read_input_tokens: 100,
    output_tokens: 6,
    service_tier: 'batch',
  },
});
const succeeded = (custom_id: string, text: string) => ({
  custom_id,
  result: { type: 'succeeded', message: message(text) },
});
const errored = (custom_id: string, type: string, text: string) => ({
  custom_id,
  result: { type: 'errored', error: { type: 'error', error: { type, message: text }, request_id: 'req_1' } },
});

const id = batch().id;
const results = `/v1/messages/batches/${id}/results`;
const model = 'claude-opus-4-7';

const server = new FixtureServer();
let batches: ProviderBatches;
beforeAll(async () => {
  await server.start();
  batches = batchesOf({ type: 'anthropic', base_url: server.url, api_key: 'sk-ant-test-12345678', batches: true });
});
afterAll(() => server.stop());
beforeEach(() => {
  server.reset();
  server.reply = () => ({ body: batch() });
});

describe('a batch API', () => {
  it('is at Anthropic itself, and at other servers where the config says so', () => {
    expect(adapterOf({ type: 'anthropic', api_key: 'k' }).batches).toBeDefined();
    expect(adapterOf({ type: 'anthropic', api_key: 'k', batches: false }).batches).toBeUndefined();
    expect(adapterOf({ type: 'anthropic', base_url: server.url }).batches).toBeUndefined();
    expect(adapterOf({ type: 'anthropic', base_url: server.url, batches: true }).batches).toBeDefined();
  });

  it('does not claim to find the batch of a lost submit', () => {
    expect(batches.find).toBeUndefined();
  });
});

describe('a submit', () => {
  it('sends each request as a single call would', async () => {
    const asked = request({ reasoning_effort: 'low', stop: 'END' });
    const lines = [line('a', { request: asked, model, outputLimit: 7 }), line('b', { model })];
    expect(await batches.submit(lines, { ...batchCall(), key: 'k' })).toEqual({ id });
    expect(server.last).toMatchObject({
      method: 'POST',
      path: '/v1/messages/batches',
      headers: { 'x-api-key': 'sk-ant-test-12345678' },
    });
    const { requests } = server.last.body;
    const size = lines.reduce((sum, each) => sum + batches.bytesOf(each), 0);
    expect(size).toBe(Buffer.byteLength(JSON.stringify(requests)) - 1);

    const adapter = adapterOf({ type: 'anthropic', base_url: server.url });
    server.reply = () => ({ body: message('hi') });
    await adapter.complete(asked, call({ model, outputLimit: 7 }));
    const { stream: _, ...single } = server.last.body;
    expect(requests).toEqual([
      { custom_id: 'a', params: single },
      { custom_id: 'b', params: { model, max_tokens: 4_096, messages: expect.anything() } },
    ]);
  });

  it('goes by the version that samples as the caller says as soon as one line needs it', async () => {
    await batches.submit([line('a')], { ...batchCall(), key: 'k' });
    expect(server.last.headers['anthropic-version']).not.toBe('2023-06-01');
    await batches.submit([line('a'), line('b', { request: request({ temperature: 0 }) })], {
      ...batchCall(),
      key: 'k',
    });
    expect(server.last.headers['anthropic-version']).toBe('2023-06-01');
    expect(server.last.body.requests[1].params.temperature).toBe(0);
  });

  it('refuses a request that cannot be translated, which its size tells beforehand', async () => {
    const toolCall = { id: 'c', type: 'function' as const, function: { name: 'f', arguments: '[1' } };
    const broken = line('b', { request: request({ messages: [{ role: 'assistant', tool_calls: [toolCall] }] }) });
    const error = { code: 'caller_invalid_request', param: 'messages[0].tool_calls[0].function.arguments' };
    expect(() => batches.bytesOf(broken)).toThrow(expect.objectContaining(error));
    await expect(batches.submit([line('a'), broken], { ...batchCall(), key: 'k' })).rejects.toMatchObject(error);
    expect(server.received).toHaveLength(0);
  });

  it('of an id that Anthropic refuses is refused here', async () => {
    const long = line('a'.repeat(65));
    await expect(batches.submit([long], { ...batchCall(), key: 'k' })).rejects.toMatchObject({
      code: 'gateway_internal',
    });
    expect(server.received).toHaveLength(0);
  });

  it('whose answer is lost may have made a batch', async () => {
    server.reply = () => ({ chunks: ['{'], cut: true, headers: { 'content-type': 'application/json' } });
    await expect(batches.submit([line('a')], { ...batchCall(), key: 'k' })).rejects.toMatchObject({
      code: 'provider_network',
      maybeBilled: true,
    });
  });

  it('and everything after it goes by the credential it is given', async () => {
    const given = batchCall({ credential: { apiKey: 'sk-ant-stored-12345678' } });
    server.reply = ({ path }) => ({ body: path === results ? jsonl(succeeded('a', 'A')) : batch() });
    await batches.submit([line('a')], { ...given, key: 'k' });
    await batches.status(id, given);
    await ends(batches.results(id, given));
    await batches.cancel(id, given);
    expect(server.received.map(({ headers }) => headers['x-api-key'])).toEqual(Array(4).fill('sk-ant-stored-12345678'));
  });
});

describe('a status', () => {
  const ended = { processing_status: 'ended', ended_at: '2026-09-24T19:37:24.100435Z' };
  const cancelled = { cancel_initiated_at: '2026-09-24T18:39:03.114875Z' };
  it.each([
    [{}, { state: 'running', total: 100, done: 0 }],
    [
      { processing_status: 'canceling', ...cancelled },
      { state: 'running', total: 100, done: 0 },
    ],
    [
      { ...ended, request_counts: { ...counts, succeeded: 95, errored: 5 } },
      { state: 'ended', total: 100, done: 100 },
    ],
    [
      { ...ended, request_counts: { ...counts, succeeded: 40, expired: 60 } },
      { state: 'expired', total: 100, done: 100 },
    ],
    [
      { ...ended, ...cancelled, request_counts: { ...counts, succeeded: 40, canceled: 60 } },
      { state: 'cancelled', total: 100, done: 100 },
    ],
  ])('%j is %j', async (overrides, status) => {
    server.reply = () => ({ body: batch(overrides) });
    expect(await batches.status(id, batchCall())).toEqual(status);
    expect(server.last.path).toBe(`/v1/messages/batches/${id}`);
  });
});

describe('results', () => {
  const resultsOf = (...lines: object[]) => {
    server.reply = ({ path }) => (path === results ? { body: jsonl(...lines) } : { status: 404 });
    return ends(batches.results(id, batchCall()));
  };

  it('are the answers with their usage, in whatever order, from the server at base_url', async () => {
    const found = await resultsOf(succeeded('b', 'B'), succeeded('a', 'A'));
    expect(server.received).toHaveLength(1);
    expect(found).toMatchObject([{ id: 'b' }, { id: 'a' }]);
    expect(found[1]).toEqual({
      id: 'a',
      answer: {
        model: 'claude-opus-4-7',
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content: 'A' },
            finish_reason: 'stop',
            native_finish_reason: 'end_turn',
          },
        ],
        usage: {
          inputTokens: 115,
          cachedInputTokens: 100,
          cacheWriteTokens: 3,
          outputTokens: 6,
          reasoningTokens: 0,
          estimated: false,
        },
      },
    });
  });

  it('of lines that failed are errors as of a single call, and not billed', async () => {
    const found = await resultsOf(
      errored('a', 'invalid_request_error', 'messages: must be non-empty'),
      errored('b', 'invalid_request_error', 'prompt is too long: 213462 tokens > 200000 maximum'),
      errored('c', 'api_error', 'Internal server error'),
      errored('d', 'overloaded_error', 'Overloaded'),
      errored('e', 'authentication_error', 'invalid x-api-key sk-ant-test-12345678'),
      errored('f', 'not_found_error', 'model: claude-9'),
      succeeded('g', 'G'),
      { custom_id: 'h', result: { type: 'expired' } },
      { custom_id: 'i', result: { type: 'canceled' } },
    );
    const error = (code: string) => ({ code, maybeBilled: false });
    expect(found).toMatchObject([
      { id: 'a', error: error('provider_invalid_request') },
      { id: 'b', error: error('provider_context_length') },
      { id: 'c', error: error('provider_server_error') },
      { id: 'd', error: error('provider_overloaded') },
      { id: 'e', error: error('provider_auth') },
      { id: 'f', error: error('provider_model_not_found') },
      { id: 'g', answer: {} },
      { id: 'h', error: error('provider_timeout') },
      { id: 'i', error: error('gateway_cancelled') },
    ]);
    expect(found.map((end) => ('error' in end ? end.error.message : '')).join()).not.toContain('sk-ant-test');
  });

  it('that cannot be read as an answer are that line’s error, and may have been billed', async () => {
    const found = await resultsOf({ custom_id: 'a', result: { type: 'succeeded', message: {} } }, succeeded('b', 'B'));
    expect(found).toMatchObject([
      { id: 'a', error: { code: 'provider_server_error', maybeBilled: true } },
      { id: 'b', answer: {} },
    ]);
  });

  it('are read no faster than they are taken, and no further', async () => {
    const total = 20_000;
    const each = jsonl(succeeded('a', 'x'.repeat(4_000)));
    let sent = 0;
    function* many() {
      while (sent < total) {
        sent += 1;
        yield each;
      }
    }
    server.reply = () => ({ chunks: many() });
    let taken = 0;
    for await (const _ of batches.results(id, batchCall())) {
      taken += 1;
      if (taken === 1_000) break;
    }
    expect(sent).toBeLessThan(total / 2);
  });

  it('of a batch without any yet are an error', async () => {
    server.reply = () => ({
      status: 404,
      body: { type: 'error', error: { type: 'not_found_error', message: 'No results.' } },
    });
    await expect(ends(batches.results(id, batchCall()))).rejects.toMatchObject({ code: 'provider_invalid_request' });
  });
});

describe('a cancel', () => {
  const refused = { status: 400, body: { type: 'error', error: { type: 'invalid_request_error', message: 'no' } } };
  const refusing = (overrides: object) => {
    server.reply = ({ method }) => (method === 'POST' ? refused : { body: batch(overrides) });
  };

  it('asks for it', async () => {
    await batches.cancel(id, batchCall());
    expect(server.received).toMatchObject([{ method: 'POST', path: `/v1/messages/batches/${id}/cancel` }]);
  });

  it.each(['ended', 'canceling'])('that comes when the batch is %s is none', async (processing_status) => {
    refusing({ processing_status });
    await batches.cancel(id, batchCall());
  });

  it('that a running batch refuses is an error', async () => {
    refusing({});
    await expect(batches.cancel(id, batchCall())).rejects.toMatchObject({ code: 'provider_invalid_request' });
  });
});

describe('every call', () => {
  const calls: [string, (signal?: AbortSignal) => Promise<unknown>][] = [
    ['submit', (signal) => batches.submit([line('a')], { ...batchCall(signal && { signal }), key: 'k' })],
    ['status', (signal) => batches.status(id, batchCall(signal && { signal }))],
    ['results', (signal) => ends(batches.results(id, batchCall(signal && { signal })))],
    ['cancel', (signal) => batches.cancel(id, batchCall(signal && { signal }))],
  ];
  const errors: [number, string, object][] = [
    [401, 'authentication_error', { code: 'provider_auth' }],
    [404, 'not_found_error', { code: 'provider_invalid_request' }],
    [429, 'rate_limit_error', { code: 'provider_rate_limited', retryAfterMs: 3_000 }],
    [500, 'api_error', { code: 'provider_server_error' }],
    [529, 'overloaded_error', { code: 'provider_overloaded' }],
  ];
  it.each(calls.flatMap(([name, make]) => errors.map((error) => [name, ...error, make] as const)))(
    '(%s) maps %i %s to %j and is not repeated',
    async (name, status, type, expected, make) => {
      server.reply = () => ({
        status,
        headers: { 'retry-after': '3' },
        body: { type: 'error', error: { type, message: 'the key sk-ant-test-12345678' } },
      });
      const error = await make().catch((thrown: Error) => thrown);
      expect(error).toMatchObject({ ...expected, maybeBilled: false });
      expect((error as Error).message).not.toContain('sk-ant-test');
      // A cancel looks whether it came too late.
      expect(server.received).toHaveLength(name === 'cancel' ? 2 : 1);
    },
  );

  it.each(calls)('(%s) ends when it is aborted', async (_name, make) => {
    const abort = new AbortController();
    server.reply = () => ({ until: new Promise(() => {}) });
    const calling = make(abort.signal);
    await expect.poll(() => server.received.length).toBe(1);
    abort.abort();
    await expect(calling).rejects.toThrow();
  });

  it('(results) ends when it is aborted on the way', async () => {
    const abort = new AbortController();
    server.reply = () => ({ chunks: [jsonl(succeeded('a', 'A')), '{'], intervalMs: 60_000 });
    const reading = (async () => {
      for await (const _ of batches.results(id, batchCall({ signal: abort.signal }))) abort.abort();
    })();
    await expect(reading).rejects.toThrow();
  });
});
