import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ProviderBatches } from '../../providers/batches.ts';
import { adapterOf, request } from '../support/adapters.ts';
import { batchCall, batchesOf, ends, jsonl, line } from '../support/batches.ts';
import { FixtureServer, type Received, type Reply } from '../support/fixture-server.ts';

const batch = (overrides: object = {}) => ({
  id: 'batch_abc123',
  object: 'batch',
  endpoint: '/v1/chat/completions',
  errors: null,
  input_file_id: 'file-in',
  completion_window: '24h',
  status: 'in_progress',
  output_file_id: null,
  error_file_id: null,
  created_at: Math.floor(Date.now() / 1000),
  in_progress_at: 1711471538,
  expires_at: 1711557933,
  finalizing_at: null,
  completed_at: null,
  failed_at: null,
  expired_at: null,
  cancelling_at: null,
  cancelled_at: null,
  request_counts: { total: 100, completed: 95, failed: 3 },
  metadata: null,
  ...overrides,
});
const file = {
  id: 'file-in',
  object: 'file',
  bytes: 120000,
  created_at: 1677610602,
  expires_at: 1677614202,
  filename: 'batch.jsonl',
  purpose: 'batch',
  status: 'processed',
};
const completion = (content: string) => ({
  id: 'chatcmpl-123',
  object: 'chat.completion',
  created: 1711652795,
  model: 'gpt-4o-mini-2024-07-18',
  choices: [{ index: 0, message: { role: 'assistant', content }, logprobs: null, finish_reason: 'stop' }],
  usage: {
    prompt_tokens: 22,
    completion_tokens: 2,
    total_tokens: 24,
    prompt_tokens_details: { cached_tokens: 20, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 1, audio_tokens: 0 },
  },
  system_fingerprint: 'fp_123',
});
const output = (custom_id: string, status_code: number, body: unknown) => ({
  id: 'batch_req_123',
  custom_id,
  response: { status_code, request_id: 'req_123', body },
  error: null,
});
const notRun = (custom_id: string, code: string) => ({
  id: 'batch_req_123',
  custom_id,
  response: null,
  error: { code, message: 'This request could not be executed.' },
});
const refusal = (fields: object = {}) => ({
  error: { message: 'why', type: 'invalid_request_error', param: null, code: null, ...fields },
});

const server = new FixtureServer();
let batches: ProviderBatches;
beforeAll(async () => {
  await server.start();
  batches = batchesOf({ type: 'openai', base_url: `${server.url}/v1`, api_key: 'sk-test-12345678', batches: true });
});
afterAll(() => server.stop());
beforeEach(() => server.reset());

/** Replies by method and path; anything else fails the test with a 500. */
function routes(table: Record<string, Reply | ((received: Received) => Reply)>): void {
  server.reply = (received) => {
    const reply = table[`${received.method} ${received.path}`] ?? { status: 500 };
    return typeof reply === 'function' ? reply(received) : reply;
  };
}

const submitting = { 'POST /v1/files': { body: file }, 'POST /v1/batches': { body: batch() } };

/** Results of a batch whose files have these lines. */
const resultsOf = (outputs: object[] | undefined, errors: object[] | undefined, state: object = {}) => {
  routes({
    'GET /v1/batches/batch_abc123': {
      body: batch({
        status: 'completed',
        output_file_id: outputs && 'file-out',
        error_file_id: errors && 'file-err',
        ...state,
      }),
    },
    'GET /v1/files/file-out/content': { body: jsonl(...(outputs ?? [])) },
    'GET /v1/files/file-err/content': { body: jsonl(...(errors ?? [])) },
  });
  return ends(batches.results('batch_abc123', batchCall()));
};

describe('a batch API', () => {
  it('is at OpenAI itself, and at other servers where the config says so', () => {
    expect(adapterOf({ type: 'openai', api_key: 'k' }).batches).toBeDefined();
    expect(adapterOf({ type: 'openai', api_key: 'k', base_url: 'https://eu.api.openai.com/v1' }).batches).toBeDefined();
    expect(adapterOf({ type: 'openai', api_key: 'k', batches: false }).batches).toBeUndefined();
    expect(adapterOf({ type: 'openai', base_url: server.url }).batches).toBeUndefined();
    expect(adapterOf({ type: 'openai', base_url: server.url, batches: true }).batches).toBeDefined();
    expect(adapterOf({ type: 'demo' }).batches).toBeUndefined();
  });
});

describe('a submit', () => {
  it('uploads a line for each request, as a single call would send it, and creates the batch', async () => {
    routes(submitting);
    const lines = [
      line('a', { request: request({ temperature: 0.2, messages: [{ role: 'user', content: 'Grüße\n\u2028' }] }) }),
      line('b', { outputLimit: 77 }),
    ];
    expect(await batches.submit(lines, { ...batchCall(), key: 'run_1:0' })).toEqual({ id: 'batch_abc123' });

    const [upload, creation] = server.received;
    expect(upload).toMatchObject({ path: '/v1/files', headers: { authorization: 'Bearer sk-test-12345678' } });
    const form = await new Response(upload?.body, {
      headers: { 'content-type': upload?.headers['content-type'] ?? '' },
    }).formData();
    expect(form.get('purpose')).toBe('batch');
    expect(form.get('expires_after[anchor]')).toBe('created_at');
    expect(form.get('expires_after[seconds]')).toBe('172800');
    const uploaded = form.get('file') as File;
    expect(uploaded.name).toBe('batch.jsonl');
    const text = await uploaded.text();
    expect(text.split('\n').map((each) => each && JSON.parse(each))).toEqual([
      {
        custom_id: 'a',
        method: 'POST',
        url: '/v1/chat/completions',
        body: { messages: [{ role: 'user', content: 'Grüße\n\u2028' }], temperature: 0.2, model: 'the-model' },
      },
      {
        custom_id: 'b',
        method: 'POST',
        url: '/v1/chat/completions',
        body: { messages: [{ role: 'user', content: 'hi' }], model: 'the-model', max_tokens: 77 },
      },
      '',
    ]);
    const sizes = lines.map((each) => batches.bytesOf(each));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(Buffer.byteLength(text));

    expect(creation?.path).toBe('/v1/batches');
    expect(creation?.body).toEqual({
      input_file_id: 'file-in',
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
      metadata: { holdfast_key: 'run_1:0' },
    });
  });

  it('and everything after it goes by the credential it is given', async () => {
    const credential = { apiKey: 'sk-stored-12345678' };
    routes({
      ...submitting,
      'GET /v1/batches?limit=100': { body: { object: 'list', data: [], has_more: false } },
      'GET /v1/batches/batch_abc123': { body: batch({ output_file_id: 'file-out' }) },
      'GET /v1/files/file-out/content': { body: jsonl(output('a', 200, completion('A'))) },
      'POST /v1/batches/batch_abc123/cancel': { body: batch({ status: 'cancelling' }) },
    });
    const call = batchCall({ credential });
    await batches.submit([line('a')], { ...call, key: 'k' });
    await batches.find?.('k', call);
    await batches.status('batch_abc123', call);
    await ends(batches.results('batch_abc123', call));
    await batches.cancel('batch_abc123', call);
    expect(server.received.map(({ headers }) => headers.authorization)).toEqual(
      Array(7).fill('Bearer sk-stored-12345678'),
    );
  });

  it.each([
    ['none', []],
    ['twice', [line('a'), line('a')]],
    ['not an id', [line('a b')]],
    ['several models', [line('a'), line('b', { model: 'other' })]],
    ['more than 50000', Array.from({ length: 50_001 }, (_, index) => line(`${index}`))],
  ])('of lines that make no batch (%s) is refused here', async (why, lines) => {
    await expect(batches.submit(lines, { ...batchCall(), key: 'k' })).rejects.toMatchObject({
      code: 'gateway_internal',
      message: expect.stringContaining(why),
    });
    expect(server.received).toHaveLength(0);
  });

  it('is repeatable when OpenAI does not find yet what was uploaded', async () => {
    const message = 'Cannot find file file-in, or project proj_1 does not have access to it.';
    routes({ ...submitting, 'POST /v1/batches': { status: 400, body: refusal({ message, param: 'file_id' }) } });
    await expect(batches.submit([line('a')], { ...batchCall(), key: 'k' })).rejects.toMatchObject({
      code: 'provider_server_error',
      maybeBilled: false,
    });
  });

  it('whose answer is lost may have made a batch, which is found by its key', async () => {
    const key = 'run_1:0';
    const page = (data: object[], has_more: boolean) => ({ body: { object: 'list', data, has_more } });
    routes({
      ...submitting,
      'POST /v1/batches': { chunks: ['{"id":'], cut: true, headers: { 'content-type': 'application/json' } },
    });
    await expect(batches.submit([line('a')], { ...batchCall(), key })).rejects.toMatchObject({
      code: 'provider_network',
      maybeBilled: true,
    });
    routes({
      'GET /v1/batches?limit=100': page([batch({ id: 'batch_2', metadata: { holdfast_key: 'run_1:1' } })], true),
      'GET /v1/batches?limit=100&after=batch_2': page(
        [batch({ id: 'batch_1' }), batch({ metadata: { holdfast_key: key } })],
        true,
      ),
    });
    expect(await batches.find?.(key, batchCall())).toEqual({ id: 'batch_abc123' });
  });

  it('that made none is not found, without a look at all of the past', async () => {
    const longAgo = Math.floor(Date.now() / 1000) - 8 * 24 * 60 * 60;
    routes({
      'GET /v1/batches?limit=100': {
        body: { object: 'list', data: [batch(), batch({ created_at: longAgo })], has_more: true },
      },
    });
    expect(await batches.find?.('run_1:0', batchCall())).toBeUndefined();
    expect(server.received).toHaveLength(1);
  });
});

describe('a status', () => {
  it.each([
    ['validating', 'running'],
    ['in_progress', 'running'],
    ['finalizing', 'running'],
    ['cancelling', 'running'],
    ['completed', 'ended'],
    ['expired', 'expired'],
    ['cancelled', 'cancelled'],
  ])('%s is %s', async (status, state) => {
    routes({ 'GET /v1/batches/batch_abc123': { body: batch({ status }) } });
    expect(await batches.status('batch_abc123', batchCall())).toEqual({ state, total: 100, done: 98 });
  });

  it.each([
    [
      [{ code: 'invalid_json_line', message: 'This line is not valid.', param: 'body', line: 3 }],
      { code: 'provider_invalid_request', message: 'it: line 3: This line is not valid.', param: 'body' },
    ],
    [
      [{ code: 'token_limit_exceeded', message: 'Enqueued token limit reached.', param: null, line: null }],
      { code: 'provider_rate_limited', message: 'it: Enqueued token limit reached.' },
    ],
    [
      [{ code: 'model_not_found', message: 'No such model.', param: 'body.model', line: 1 }],
      { code: 'provider_model_not_found', message: 'it: line 1: No such model.' },
    ],
    [
      [{ code: 'billing_hard_limit_reached', message: 'Billing hard limit has been reached.' }],
      { code: 'provider_quota_exhausted', message: 'it: Billing hard limit has been reached.' },
    ],
    [undefined, { code: 'provider_invalid_request', message: 'it: no reason was given' }],
  ])('failed for %j says why', async (data, error) => {
    const errors = data && { object: 'list', data };
    routes({ 'GET /v1/batches/batch_abc123': { body: batch({ status: 'failed', request_counts: null, errors }) } });
    expect(await batches.status('batch_abc123', batchCall())).toEqual({ state: 'failed', total: 0, done: 0, error });
  });
});

describe('results', () => {
  it('are the answers with their usage, in whatever order', async () => {
    const found = await resultsOf([output('b', 200, completion('B')), output('a', 200, completion('A'))], undefined);
    expect(found).toMatchObject([{ id: 'b' }, { id: 'a' }]);
    expect(found[1]).toEqual({
      id: 'a',
      answer: {
        model: 'gpt-4o-mini-2024-07-18',
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content: 'A' },
            finish_reason: 'stop',
            native_finish_reason: 'stop',
          },
        ],
        usage: {
          inputTokens: 22,
          cachedInputTokens: 20,
          cacheWriteTokens: 0,
          outputTokens: 2,
          reasoningTokens: 1,
          estimated: false,
        },
        extra: { system_fingerprint: 'fp_123' },
      },
    });
  });

  it('of lines that failed are errors as of a single call, in either file', async () => {
    const found = await resultsOf(
      [output('a', 200, completion('A')), output('b', 500, refusal({ type: 'server_error' }))],
      [
        output('c', 400, refusal({ param: 'messages[0].content' })),
        output('d', 400, refusal({ code: 'context_length_exceeded' })),
        output('e', 429, refusal({ code: 'rate_limit_exceeded' })),
        output('f', 401, refusal({ message: 'Incorrect API key provided: sk-test-12345678' })),
      ],
    );
    expect(found).toMatchObject([
      { id: 'a', answer: {} },
      { id: 'b', error: { code: 'provider_server_error', maybeBilled: false } },
      { id: 'c', error: { code: 'provider_invalid_request', param: 'messages[0].content', providerStatus: 400 } },
      { id: 'd', error: { code: 'provider_context_length' } },
      { id: 'e', error: { code: 'provider_rate_limited' } },
      { id: 'f', error: { code: 'provider_auth' } },
    ]);
    expect(JSON.stringify(found)).not.toContain('sk-test');
  });

  it.each(['expired', 'cancelled'])('of a batch that %s say which lines did not run', async (status) => {
    const found = await resultsOf(
      [output('a', 200, completion('A'))],
      [notRun('b', 'batch_expired'), notRun('c', 'batch_cancelled'), notRun('d', 'request_timeout')],
      { status },
    );
    expect(found).toMatchObject([
      { id: 'a', answer: {} },
      { id: 'b', error: { code: 'provider_timeout', maybeBilled: false } },
      { id: 'c', error: { code: 'gateway_cancelled', maybeBilled: false } },
      { id: 'd', error: { code: 'provider_timeout', maybeBilled: true } },
    ]);
  });

  it('without any answer are the errors alone, and without any file nothing', async () => {
    expect(await resultsOf(undefined, [notRun('b', 'batch_expired')])).toMatchObject([{ id: 'b' }]);
    expect(await resultsOf(undefined, undefined, { status: 'failed' })).toEqual([]);
  });

  it('that cannot be read as an answer are that line’s error, and may have been billed', async () => {
    const found = await resultsOf(
      [output('a', 200, {}), output('b', 0, ''), output('c', 200, completion('C'))],
      undefined,
    );
    expect(found).toMatchObject([
      { id: 'a', error: { code: 'provider_server_error', maybeBilled: true } },
      { id: 'b', error: { code: 'provider_network', maybeBilled: true } },
      { id: 'c', answer: {} },
    ]);
  });

  it('that are no results are an error that does not quote them', async () => {
    routes({
      'GET /v1/batches/batch_abc123': { body: batch({ status: 'completed', output_file_id: 'file-out' }) },
      'GET /v1/files/file-out/content': { body: Buffer.from('{"secret answer"\n') },
    });
    const error = await ends(batches.results('batch_abc123', batchCall())).catch((thrown: Error) => thrown);
    expect(error).toMatchObject({ code: 'provider_server_error' });
    expect((error as Error).message).not.toContain('secret');
  });

  it('may be cut anywhere by the network', async () => {
    const bytes = jsonl(output('a', 200, completion('Grüße\u2028')), output('b', 200, completion('B'))).subarray(0, -1);
    // Inside of the ü and of the line separator.
    const cuts = [0, bytes.indexOf('ü') + 1, bytes.indexOf('\u2028') + 1];
    routes({
      'GET /v1/batches/batch_abc123': { body: batch({ status: 'completed', output_file_id: 'file-out' }) },
      'GET /v1/files/file-out/content': {
        chunks: [0, 1, 2].map((i) => bytes.subarray(cuts[i], cuts[i + 1])),
        intervalMs: 10,
      },
    });
    const found = await ends(batches.results('batch_abc123', batchCall()));
    expect(found).toMatchObject([
      { id: 'a', answer: { choices: [{ message: { content: 'Grüße\u2028' } }] } },
      { id: 'b', answer: { choices: [{ message: { content: 'B' } }] } },
    ]);
  });

  it('that break off are an error after what had come', async () => {
    const bytes = jsonl(output('a', 200, completion('A')), output('b', 200, completion('B')));
    routes({
      'GET /v1/batches/batch_abc123': { body: batch({ status: 'completed', output_file_id: 'file-out' }) },
      'GET /v1/files/file-out/content': { chunks: [bytes.subarray(0, -10)], cut: true },
    });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { id } of batches.results('batch_abc123', batchCall())) seen.push(id);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'provider_network' });
    expect(seen).toEqual(['a']);
  });

  it('are read no faster than they are taken, and no further', async () => {
    const total = 20_000;
    const each = jsonl(output('a', 200, completion('x'.repeat(4_000))));
    let sent = 0;
    let closed = false;
    function* endless() {
      try {
        while (sent < total) {
          sent += 1;
          yield each;
        }
      } finally {
        closed = true;
      }
    }
    routes({
      'GET /v1/batches/batch_abc123': { body: batch({ status: 'completed', output_file_id: 'file-out' }) },
      'GET /v1/files/file-out/content': () => ({ chunks: endless() }),
    });
    let taken = 0;
    for await (const { id } of batches.results('batch_abc123', batchCall())) {
      expect(id).toBe('a');
      taken += 1;
      if (taken === 1_000) break;
    }
    await expect.poll(() => closed).toBe(true);
    expect(sent).toBeLessThan(total / 2);
  });
});

describe('a cancel', () => {
  it('asks for it', async () => {
    routes({ 'POST /v1/batches/batch_abc123/cancel': { body: batch({ status: 'cancelling' }) } });
    await batches.cancel('batch_abc123', batchCall());
    expect(server.received).toHaveLength(1);
  });

  it.each(['completed', 'failed', 'expired', 'cancelling', 'cancelled', 'finalizing'])(
    'that comes when the batch is %s is none',
    async (status) => {
      const message = `Cannot cancel a batch with status '${status}'.`;
      routes({
        'POST /v1/batches/batch_abc123/cancel': { status: 409, body: refusal({ message }) },
        'GET /v1/batches/batch_abc123': { body: batch({ status }) },
      });
      await batches.cancel('batch_abc123', batchCall());
    },
  );

  it('that a running batch refuses is an error', async () => {
    routes({
      'POST /v1/batches/batch_abc123/cancel': { status: 500, body: refusal({ type: 'server_error' }) },
      'GET /v1/batches/batch_abc123': { body: batch() },
    });
    await expect(batches.cancel('batch_abc123', batchCall())).rejects.toMatchObject({ code: 'provider_server_error' });
  });
});

describe('every call', () => {
  const calls: [string, (signal?: AbortSignal) => Promise<unknown>][] = [
    ['submit', (signal) => batches.submit([line('a')], { ...batchCall(signal && { signal }), key: 'k' })],
    ['find', async (signal) => batches.find?.('k', batchCall(signal && { signal }))],
    ['status', (signal) => batches.status('batch_abc123', batchCall(signal && { signal }))],
    ['results', (signal) => ends(batches.results('batch_abc123', batchCall(signal && { signal })))],
    ['cancel', (signal) => batches.cancel('batch_abc123', batchCall(signal && { signal }))],
  ];
  const errors: [number, object, object][] = [
    [401, refusal({ message: 'Incorrect API key provided: sk-test-12345678' }), { code: 'provider_auth' }],
    [429, refusal({ code: 'rate_limit_exceeded' }), { code: 'provider_rate_limited', retryAfterMs: 3_000 }],
    [500, refusal({ type: 'server_error' }), { code: 'provider_server_error' }],
    // No such batch, file or API: another model would not help.
    [404, refusal({ message: 'No batch found.' }), { code: 'provider_invalid_request' }],
  ];
  it.each(calls.flatMap(([name, make]) => errors.map((error) => [name, ...error, make] as const)))(
    '(%s) maps %i %j to %j and is not repeated',
    async (name, status, body, expected, make) => {
      server.reply = () => ({ status, headers: { 'retry-after': '3' }, body });
      const error = await make().catch((thrown: Error) => thrown);
      expect(error).toMatchObject({ ...expected, maybeBilled: false });
      expect((error as Error).message).not.toContain('sk-test');
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
    routes({
      'GET /v1/batches/batch_abc123': { body: batch({ status: 'completed', output_file_id: 'file-out' }) },
      'GET /v1/files/file-out/content': {
        chunks: [jsonl(output('a', 200, completion('A'))), Buffer.from('{')],
        intervalMs: 60_000,
      },
    });
    const reading = (async () => {
      for await (const _ of batches.results('batch_abc123', batchCall({ signal: abort.signal }))) abort.abort();
    })();
    await expect(reading).rejects.toThrow();
  });
});
