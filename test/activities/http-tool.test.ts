import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ANY_ADDRESS, publicAddresses } from '../../activities/address-policy.ts';
import type { TextAnswer } from '../../activities/text-answer.ts';
import { argumentProblem } from '../../activities/tools/arguments.ts';
import { callHttpTool } from '../../activities/tools/http-tool.ts';
import { toToolRequest } from '../../activities/tools/tool-request.ts';
import { isWorthAnother, toToolText } from '../../activities/tools/tool-result.ts';
import type { HttpTool } from '../../domain/tool.ts';
import { FixtureServer } from '../support/fixture-server.ts';

const server = new FixtureServer();
beforeAll(() => server.start());
beforeEach(() => {
  server.reset();
  server.reply = () => ({});
});
afterAll(() => server.stop());

const toolAt = (url: string, overrides: Partial<HttpTool> = {}): HttpTool => ({
  type: 'http',
  name: 'tool',
  parameters: { type: 'object' },
  method: 'POST',
  url,
  timeoutMs: 5_000,
  maxAttempts: 3,
  ...overrides,
});
const call = (
  path: string,
  args: Record<string, unknown> = {},
  { addresses = ANY_ADDRESS, signal, ...tool }: Partial<HttpTool & Parameters<typeof callHttpTool>[2]> = {},
) =>
  callHttpTool(toolAt(server.url + path, tool), args, {
    idempotencyKey: 'call-1',
    addresses,
    ...(signal && { signal }),
  });
const requestOf = (tool: Partial<HttpTool>, args: Record<string, unknown>) =>
  toToolRequest(toolAt('https://api.example', tool), args, 'call-1');

describe('a call of an HTTP tool', () => {
  it('posts its arguments as JSON, with the key of the call, and tells the answer', async () => {
    server.reply = () => ({ status: 201, body: { ok: true } });
    const answer = await call('/do', { a: 1, b: null }, { headers: { authorization: 'Bearer planted-token' } });
    expect(answer).toEqual({ outcome: 'answered', status: 201, text: '{"ok":true}' });
    expect(server.last).toMatchObject({
      method: 'POST',
      path: '/do',
      headers: {
        'content-type': 'application/json',
        'idempotency-key': 'call-1',
        'user-agent': 'Holdfast',
        authorization: 'Bearer planted-token',
      },
      body: { a: 1, b: null },
    });
  });

  it('asks by the query where its method has no body', async () => {
    for (const method of ['GET', 'DELETE'] as const) {
      await call('/find?fixed=1', { q: 'a b', tags: ['x', 'y'], none: null, deep: { n: 1 } }, { method });
      expect(server.last).toMatchObject({ method, path: '/find?fixed=1&q=a b&tags=x&tags=y&deep={"n":1}' });
      expect(server.last.headers).not.toHaveProperty('content-type');
      expect(server.last.headers).toMatchObject({ 'idempotency-key': 'call-1' });
    }
  });

  it('puts each argument into its place', async () => {
    const places = { dry: 'query', 'X-Trace': 'header' } as const;
    await call('/pets/{id}', { id: 7, dry: true, 'X-Trace': 'abc', name: 'Rex' }, { method: 'PATCH', places });
    expect(server.last).toMatchObject({ method: 'PATCH', path: '/pets/7?dry=true', headers: { 'x-trace': 'abc' } });
    expect(server.last.body).toEqual({ name: 'Rex' });
    await call('/tags', { body: ['a', 'b'] }, { method: 'PUT', places: { body: 'whole_body' } });
    expect(server.last.body).toEqual(['a', 'b']);
    await call('/tags', {}, { method: 'PUT', places: { body: 'whole_body' } });
    expect(server.last.body).toBeUndefined();
    await call('/pets', { ids: [1] }, { method: 'DELETE', places: { ids: 'body' } });
    expect(server.last).toMatchObject({ path: '/pets', body: { ids: [1] } });
  });

  it('lets no argument replace what the tool sends', async () => {
    const places = { Authorization: 'header', 'Idempotency-Key': 'header' } as const;
    const args = { Authorization: 'mine', 'Idempotency-Key': 'mine' };
    await call('/do', args, { places, headers: { authorization: 'theirs' } });
    expect(server.last.headers).toMatchObject({ authorization: 'theirs', 'idempotency-key': 'call-1' });
  });

  it('tells of no credential of its own, even if the other side does', async () => {
    server.reply = ({ headers }) => ({ body: { ...headers } });
    const headers = { authorization: 'Bearer planted-token', 'x-key': 'planted-key', accept: 'application/json' };
    const answer = await call('/echo', {}, { headers });
    expect(server.last.headers).toMatchObject(headers);
    expect(JSON.stringify(answer)).not.toContain('planted');
    expect(answer).toMatchObject({ text: expect.stringContaining('application/json') });
  });

  it('follows no redirect', async () => {
    server.reply = () => ({ status: 302, headers: { location: '/second' }, body: Buffer.from('moved') });
    expect(await call('/first')).toEqual({ outcome: 'answered', status: 302, text: 'moved' });
    expect(server.received).toHaveLength(1);
  });

  it('goes to no address that is not allowed, by number or by name', async () => {
    const { port } = new URL(server.url);
    const addresses = publicAddresses([]);
    const terms = { idempotencyKey: 'call-1', addresses };
    for (const host of ['169.254.169.254', `127.0.0.1:${port}`, `localhost:${port}`, `2130706433:${port}`]) {
      const answer = await callHttpTool(toolAt(`http://${host}/{a}`), { a: 'b' }, terms);
      expect(answer).toMatchObject({ outcome: 'refused', reason: expect.stringContaining('not public') });
    }
    expect(server.received).toEqual([]);
    expect(await call('/', {}, { addresses: publicAddresses(['127.0.0.1']) })).toMatchObject({ outcome: 'answered' });
  });

  it('gives up after its time, before the answer and in the middle of it', async () => {
    server.reply = () => ({ delayMs: 5_000 });
    expect(await call('/', {}, { timeoutMs: 200 })).toEqual({ outcome: 'unanswered', reason: 'timeout' });
    server.reply = () => ({ chunks: Array(100).fill('drip'), intervalMs: 50 });
    expect(await call('/', {}, { timeoutMs: 300 })).toEqual({ outcome: 'unanswered', reason: 'timeout' });
  });

  it('ends when it is not wanted any more', async () => {
    server.reply = () => ({ delayMs: 5_000 });
    const controller = new AbortController();
    const answer = call('/', {}, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('cancelled')), 100);
    await expect(answer).rejects.toThrow('cancelled');
  });

  it('reads 4 MB and no more', async () => {
    server.reply = () => ({ body: Buffer.alloc(4 * 1024 * 1024, 'x') });
    expect(await call('/')).toMatchObject({ outcome: 'answered', text: expect.stringMatching(/^x{100}/) });
    server.reply = () => ({ body: Buffer.alloc(4 * 1024 * 1024 + 1, 'x') });
    expect(await call('/')).toEqual({ outcome: 'refused', reason: 'The answer is larger than 4 MB.' });
  });

  it('says when the other side wants to be asked again', async () => {
    server.reply = () => ({ status: 429, headers: { 'retry-after': '7' } });
    expect(await call('/')).toMatchObject({ outcome: 'answered', status: 429, retryAfterMs: 7_000 });
  });

  it('says why there was no answer', async () => {
    server.reply = () => ({ chunks: ['half'], cut: true });
    expect(await call('/')).toEqual({ outcome: 'unanswered', reason: expect.stringMatching(/^[A-Z_]+$/) });
  });
});

describe('the request of a tool', () => {
  it('keeps an argument of the path within its segment', () => {
    const urlOf = (a: string) => requestOf({ url: 'https://api.example/x/{a}/y?z={a}' }, { a }).url;
    expect(urlOf('../../b?c=d#e')).toBe('https://api.example/x/..%2F..%2Fb%3Fc%3Dd%23e/y?z=..%2F..%2Fb%3Fc%3Dd%23e');
    expect(urlOf('..\\b')).toBe('https://api.example/x/..%5Cb/y?z=..%5Cb');
    expect(urlOf('%2e%2e')).toBe('https://api.example/x/%252e%252e/y?z=%252e%252e');
    expect(urlOf('\ud800')).toContain('/x/%EF%BF%BD/y');
  });

  it.each([
    ['https://api.example/x/{a}/y', '..'],
    ['https://api.example/x/{a}/y', '.'],
    ['https://api.example/x/.{a}', '.'],
    ['https://api.example/x/{a}{a}?b=c', '.'],
    ['https://api.example/x/%2e{a}', '.'],
    ['https://api.example/x/{a}', ''],
    ['https://api.example/x/{a}', []],
    ['https://api.example/x/{a}', null],
    ['https://api.example/x/{a}', undefined],
  ])('at %s is refused with %j, which leads elsewhere', async (url, a) => {
    expect(() => requestOf({ url }, { a })).toThrow(/argument/i);
    const refused = await callHttpTool(toolAt(url), { a }, { idempotencyKey: 'x', addresses: ANY_ADDRESS });
    expect(refused).toMatchObject({ outcome: 'refused', reason: expect.stringMatching(/argument/i) });
  });

  it('is refused with a header that would begin another', () => {
    const tool = { places: { 'x-a': 'header' } } as const;
    for (const a of ['b\r\nx-c: d', 'b\0', '\u{1F600}']) expect(() => requestOf(tool, { 'x-a': a })).toThrow("'x-a'");
  });

  it('does not take for arguments what all objects have', () => {
    const tool = { method: 'GET', places: { a: 'header' } } as const;
    expect(requestOf(tool, JSON.parse('{"constructor":"b","__proto__":"c"}')).url).toBe(
      'https://api.example?constructor=b&__proto__=c',
    );
    expect(() => requestOf({ url: 'https://api.example/{toString}' }, {})).toThrow("'toString'");
  });
});

describe('the arguments of a call', () => {
  const problemOf = (parameters: Record<string, unknown>, args: unknown) =>
    argumentProblem(toolAt('https://api.example', { parameters }), args);
  const city = { type: 'object', properties: { city: { type: 'string', format: 'x', 'x-a': 1 } }, required: ['city'] };

  it('follow the tool’s schema, or what is wrong with them is said', () => {
    expect(problemOf(city, { city: 'Bern' })).toBeUndefined();
    expect(problemOf(city, {})).toBe("arguments must have required property 'city'");
    expect(problemOf(city, { city: 1 })).toBe('arguments/city must be string');
    expect(problemOf(city, 'Bern')).toBe('arguments must be object');
  });

  it('follow schemas of several drafts, also two of one id', () => {
    for (const draft of ['http://json-schema.org/draft-07/schema#', 'https://json-schema.org/draft/2020-12/schema']) {
      const schema = { ...city, $schema: draft, $id: 'https://a.example/same' };
      expect(problemOf(schema, { city: 'Bern' })).toBeUndefined();
      expect(problemOf({ ...schema, required: [] }, { city: 1 })).toBe('arguments/city must be string');
    }
  });

  it('do not hold the process up by a pattern', () => {
    const schema = { type: 'object', properties: { a: { type: 'string', pattern: '^(a+)+$' } } };
    expect(problemOf(schema, { a: 'aaa' })).toBeUndefined();
    expect(problemOf(schema, { a: 'b' })).toContain('must match pattern');
    const startedAt = Date.now();
    expect(problemOf(schema, { a: `${'a'.repeat(60)}!` })).toContain('cannot be checked');
    expect(Date.now() - startedAt).toBeLessThan(1_000);
  });

  it('match patterns that are written loosely', () => {
    const schema = { type: 'object', properties: { a: { pattern: '^[\\w-.]+$' } } };
    expect(problemOf(schema, { a: 'a-b.c' })).toBeUndefined();
    expect(problemOf(schema, { a: 'a b' })).toContain('must match pattern');
  });

  it('are not checked behind anybody’s back', () => {
    expect(problemOf({ ...city, $async: true }, {})).toContain('cannot be checked');
  });
});

describe('what a model is told of a call', () => {
  const answered = (status: number, text: string): TextAnswer => ({ outcome: 'answered', status, text });

  it.each<[TextAnswer, string]>([
    [answered(200, '{"a":1}'), '{"a":1}'],
    [answered(204, ''), 'HTTP 204'],
    [answered(302, 'moved'), 'HTTP 302: moved'],
    [answered(404, 'no such city'), 'HTTP 404: no such city'],
    [answered(500, ''), 'HTTP 500'],
    [{ outcome: 'unanswered', reason: 'timeout' }, 'The tool did not answer (timeout).'],
    [
      { outcome: 'refused', reason: 'Its address is not public.' },
      'The tool gave no result. Its address is not public.',
    ],
  ])('of %j is %s', (answer, told) => expect(toToolText(answer)).toBe(told));

  it.each<[TextAnswer, boolean]>([
    [answered(200, ''), false],
    [answered(404, ''), false],
    [answered(429, ''), true],
    [answered(500, ''), true],
    [answered(503, ''), true],
    [{ outcome: 'unanswered', reason: 'ECONNRESET' }, true],
    [{ outcome: 'refused', reason: '' }, false],
  ])('and whether %j is worth another request: %s', (answer, expected) =>
    expect(isWorthAnother(answer)).toBe(expected),
  );
});
