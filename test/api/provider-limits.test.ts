import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer, type Received } from '../support/fixture-server.ts';
import { eventually, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion } from '../support/shapes.ts';

const upstream = new FixtureServer();
beforeAll(() => upstream.start());
afterAll(() => upstream.stop());

const seconds = (reset: string, remaining: number) => ({
  'x-ratelimit-limit-requests': '1000',
  'x-ratelimit-remaining-requests': String(remaining),
  'x-ratelimit-reset-requests': reset,
});
const answer = openaiCompletion('hi');
/** Models are limited apart, so that each test has one of its own. */
const modelOf = ({ body }: Received): string => body.model;
const countOf = (model: string) => upstream.received.filter((request) => modelOf(request) === model).length;

describe.each<Parts>(['embedded', 'configured'])('a provider’s own limits with %s parts', (parts) => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, max_retries: 1 }
  small: { type: openai, base_url: "${upstream.url}/small/v1", api_key: sk-up, max_retries: 1, limits: { requests_per_minute: 10 } }
models:
  either: [ { provider: openai, model: first }, { provider: openai, model: second } ]
fallback: { enabled: true, fallback_order: [], max_fallback_attempts: 2 }
server: { request_deadline: 20 }
`,
      parts,
    );
  });
  afterAll(() => gateway.stop());

  const ask = (model: string, key?: string) =>
    gateway.fetch('/v1/chat/completions', {
      ...(key && { key }),
      json: { model, messages: [{ role: 'user', content: 'hi' }] },
    });
  const makeKey = async (team: string): Promise<string> =>
    (await gateway.json('/config/virtual-keys', { json: { name: 'test', team } })).key;
  const attemptsOf = (response: Response) => response.headers.get('x-holdfast-attempts');

  it('are learned from its answers, and the next call waits for them without counting as a retry', async () => {
    upstream.reset();
    // Grows back at one request in 1.5 s.
    upstream.reply = (request) =>
      countOf(modelOf(request)) === 1 ? { body: answer, headers: seconds('25m0s', 0) } : { body: answer };
    expect((await ask('openai/learned')).status).toBe(200);
    const started = Date.now();
    const second = await ask('openai/learned');
    expect(second.status).toBe(200);
    expect(attemptsOf(second)).toBe('1');
    expect(Date.now() - started).toBeGreaterThan(1_000);
    expect(countOf('learned')).toBe(2);
  });

  it('send a request to the next target when the wait would be long', async () => {
    upstream.reset();
    upstream.reply = (request) => ({
      body: answer,
      ...(modelOf(request) === 'first' && { headers: seconds('500m0s', 0) }),
    });
    expect((await ask('openai/first')).status).toBe(200);
    const second = await ask('either');
    expect(second.status).toBe(200);
    expect(attemptsOf(second)).toBe('1');
    expect(countOf('first')).toBe(1);
    expect(countOf('second')).toBe(1);
  });

  it('end a request that no target takes before its deadline as a 429', async () => {
    upstream.reset();
    upstream.reply = () => ({ body: answer, headers: seconds('500m0s', 0) });
    expect((await ask('openai/full')).status).toBe(200);
    const refused = await ask('openai/full');
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(20);
    expect(await refused.json()).toMatchObject({ error: { code: 'provider_rate_limited' } });
    expect(countOf('full')).toBe(1);
    const run = refused.headers.get('x-holdfast-run-id');
    expect(await gateway.json(`/logs/${run}`)).toMatchObject({ state: 'failed', attempts: [] });
  });

  it('of the config leave room for a team that comes later', async () => {
    upstream.reset();
    upstream.reply = () => ({ body: answer });
    const [busy, quiet] = [await makeKey(crypto.randomUUID()), await makeKey(crypto.randomUUID())];
    const model = `small/${crypto.randomUUID()}`;
    const rush = await Promise.all(Array.from({ length: 14 }, () => ask(model, busy)));
    const served = rush.filter(({ status }) => status === 200).length;
    // The minute may have turned meanwhile.
    expect(served).toBeGreaterThanOrEqual(8);
    expect(served).toBeLessThan(14);
    const newcomer = await ask(model, quiet);
    expect(newcomer.status).toBe(200);
    await eventually(async () => countOf(model.slice('small/'.length)) === served + 1);
  });
});
