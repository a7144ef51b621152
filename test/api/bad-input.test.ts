import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway(`
providers:
  demo: { type: demo }
  anthropic: { type: anthropic, base_url: "http://127.0.0.1:9", api_key: x, default_model: claude-haiku-4-5 }
default_provider: demo
server: { body_limit_mb: 1 }
`);
});
afterAll(() => gateway.stop());

const hi = [{ role: 'user', content: 'hi' }];
const post = (body: string, headers: Record<string, string> = {}) =>
  gateway.fetch('/v1/chat/completions', {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  });
const send = (body: unknown) => post(JSON.stringify(body));
async function problem(response: Response) {
  const { error } = (await response.json()) as {
    error: { message: string; type: string; param: string | null; code: string };
  };
  return { status: response.status, ...error };
}

describe('a body that is no request', () => {
  it.each([
    ['malformed JSON', '{"model": "demo",', 400, 'invalid_request'],
    ['nothing', '', 400, 'invalid_request'],
    ['an array', '[]', 400, 'invalid_request'],
    ['a prototype trick', '{"__proto__": {"x": 1}}', 400, 'invalid_request'],
  ])('%s is a 400', async (_name, body, status, code) => {
    expect(await problem(await post(body))).toMatchObject({ status, code, type: 'invalid_request_error' });
  });

  it('of another content type is a 415', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
      expect(await problem(await post('x', { 'content-type': type }))).toMatchObject({
        status: 415,
        code: 'unsupported_media_type',
      });
    }
  });

  it('over the limit is a 413 that names the limit', async () => {
    const large = await send({ model: 'demo', messages: [{ role: 'user', content: 'x'.repeat(1_100_000) }] });
    expect(await problem(large)).toMatchObject({
      status: 413,
      code: 'request_too_large',
      message: expect.stringContaining('1 MB'),
    });
  });
});

describe('a wrong field is a 400 that names it', () => {
  it.each<[string, unknown, string | null]>([
    ['no messages', { model: 'demo' }, 'messages'],
    ['empty messages', { model: 'demo', messages: [] }, 'messages'],
    ['messages of a wrong type', { model: 'demo', messages: 'hi' }, 'messages'],
    ['a message without a role', { model: 'demo', messages: [{ content: 'hi' }] }, 'messages[0].role'],
    ['an unknown role', { model: 'demo', messages: [...hi, { role: 'robot', content: 'x' }] }, 'messages[1].role'],
    ['a message without content', { model: 'demo', messages: [{ role: 'user' }] }, 'messages[0].content'],
    ['empty parts', { model: 'demo', messages: [{ role: 'user', content: [] }] }, 'messages[0].content'],
    [
      'an unknown part',
      { model: 'demo', messages: [{ role: 'user', content: [{ type: 'smell' }] }] },
      'messages[0].content[0].type',
    ],
    [
      'an image that is no URL',
      {
        model: 'demo',
        messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'file:///etc/passwd' } }] }],
      },
      'messages[0].content[0].image_url.url',
    ],
    [
      'a tool message without its call',
      { model: 'demo', messages: [{ role: 'tool', content: 'x' }] },
      'messages[0].tool_call_id',
    ],
    ['a model of a wrong type', { model: 5, messages: hi }, 'model'],
    ['no model', { messages: hi }, 'model'],
    ['an empty model', { model: '', messages: hi }, 'model'],
    ['a temperature out of range', { model: 'demo', messages: hi, temperature: 3 }, 'temperature'],
    ['a fraction of a token', { model: 'demo', messages: hi, max_tokens: 1.5 }, 'max_tokens'],
    ['no tokens', { model: 'demo', messages: hi, max_completion_tokens: 0 }, 'max_completion_tokens'],
    ['no choices', { model: 'demo', messages: hi, n: 0 }, 'n'],
    ['too many stop sequences', { model: 'demo', messages: hi, stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    ['a stream of a wrong type', { model: 'demo', messages: hi, stream: 'yes' }, 'stream'],
    [
      'a tool without a name',
      { model: 'demo', messages: hi, tools: [{ type: 'function', function: {} }] },
      'tools[0].function.name',
    ],
    [
      'an unknown response format',
      { model: 'demo', messages: hi, response_format: { type: 'xml' } },
      'response_format.type',
    ],
    ['metadata of a wrong type', { model: 'demo', messages: hi, metadata: 'x' }, 'metadata'],
    [
      'tool arguments that are no object',
      {
        model: 'anthropic/claude-haiku-4-5',
        messages: [
          ...hi,
          { role: 'assistant', tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '[' } }] },
        ],
      },
      'messages[1].tool_calls[0].function.arguments',
    ],
  ])('%s', async (_name, body, param) => {
    const { status, message, ...error } = await problem(await send(body));
    expect({ status, ...error }).toEqual({
      status: 400,
      type: 'invalid_request_error',
      code: 'invalid_request',
      param,
    });
    expect(message).toContain(param ?? '');
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['log probabilities of a Claude model', { logprobs: true }, 'logprobs'],
    ['a seed for a Claude model', { seed: 1 }, 'seed'],
    ['two choices of a Claude model', { n: 2 }, 'n'],
    ['a field that only OpenAI has', { prediction: {} }, 'prediction'],
  ])('that the provider lacks: %s', async (_name, extra, param) => {
    expect(await problem(await send({ model: 'claude-haiku-4-5', messages: hi, ...extra }))).toMatchObject({
      status: 400,
      code: 'unsupported_parameter',
      param,
      message: expect.stringContaining('anthropic/claude-haiku-4-5'),
    });
  });

  it('an unknown model is a 404', async () => {
    expect(await problem(await send({ model: 'gpt-99', messages: hi }))).toMatchObject({
      status: 404,
      code: 'model_not_found',
      param: 'model',
    });
    expect(await problem(await send({ model: 'smart', messages: hi }))).toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });

  it('null at the top level means not set', async () => {
    const response = await send({
      model: 'demo',
      messages: hi,
      temperature: null,
      tools: null,
      stop: null,
      stream: null,
    });
    expect(response.status).toBe(200);
  });
});

describe('a key', () => {
  it.each([
    ['none', undefined],
    ['a wrong one', 'Bearer sk-hf-wrong'],
    ['another scheme', 'Basic c2stbWFzdGVyLWZvci10ZXN0cw=='],
    ['an empty one', 'Bearer '],
  ])('%s is a 401', async (_name, authorization) => {
    const response = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'demo', messages: hi }),
      headers: { 'content-type': 'application/json', ...(authorization && { authorization }) },
    });
    expect(await problem(response)).toMatchObject({
      status: 401,
      code: 'invalid_api_key',
      type: 'invalid_request_error',
    });
  });
});

describe('the rest', () => {
  it('unknown paths and ids are 404s', async () => {
    expect(await problem(await gateway.fetch('/v1/nothing'))).toMatchObject({ status: 404, code: 'not_found' });
    expect(await problem(await gateway.fetch('/logs/none'))).toMatchObject({ status: 404 });
    expect(await problem(await gateway.fetch('/v1/chat/completions/none'))).toMatchObject({ status: 404 });
    expect(await problem(await gateway.fetch('/config/virtual-keys/none'))).toMatchObject({ status: 404 });
  });

  it('wrong queries are 400s that name the parameter', async () => {
    expect(await problem(await gateway.fetch('/logs?limit=none'))).toMatchObject({ status: 400, param: 'limit' });
    expect(await problem(await gateway.fetch('/logs?since=yesterday'))).toMatchObject({ status: 400, param: 'since' });
    expect(await problem(await gateway.fetch('/metrics/usage?group_by=mood'))).toMatchObject({
      status: 400,
      param: 'group_by',
    });
  });

  it('a wrong x-request-id is a 400', async () => {
    const response = await post(JSON.stringify({ model: 'demo', messages: hi }), { 'x-request-id': 'x'.repeat(200) });
    expect(await problem(response)).toMatchObject({ status: 400, param: 'x-request-id' });
  });

  it('a wrong virtual key is a 400 that names the field', async () => {
    const make = (json: unknown) => gateway.fetch('/config/virtual-keys', { json });
    expect(await problem(await make({}))).toMatchObject({ status: 400, param: 'name' });
    expect(await problem(await make({ name: 'x', rateLimit: { rpm: -1 } }))).toMatchObject({
      status: 400,
      param: 'rateLimit.rpm',
    });
    expect(await problem(await make({ name: 'x', colour: 'red' }))).toMatchObject({ status: 400, param: 'colour' });
    expect(await problem(await make({ name: 'x', expiresAt: 'soon' }))).toMatchObject({
      status: 400,
      param: 'expiresAt',
    });
  });
});
