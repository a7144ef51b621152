import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { RedisServer } from '../support/redis-server.ts';
import { openaiCompletion } from '../support/shapes.ts';

const PATH = '/api/v1/settings';
const upstream = new FixtureServer();
const config = () => `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 2 }
fallback: { enabled: false }
rate_limit: { requests_per_minute: 7 }
logging: { prompt_preview: 5 }
`;

let gateway: TestGateway;
let other: TestGateway;
beforeAll(async () => {
  await upstream.start();
  [gateway, other] = await Promise.all([startGateway(config(), 'configured'), startGateway(config(), 'configured')]);
});
afterAll(async () => {
  await gateway.fetch(PATH, { method: 'DELETE' });
  await Promise.all([gateway.stop(), other.stop()]);
  await upstream.stop();
});

const put = (json: unknown, key?: string) => gateway.fetch(PATH, { method: 'PUT', json, ...(key && { key }) });
const makeKey = async (settings: Record<string, unknown> = {}): Promise<{ id: string; key: string }> =>
  gateway.json('/config/virtual-keys', { json: { name: 'test', ...settings } });
const ask = (
  from: TestGateway,
  key: string,
  body: Record<string, unknown> = {},
  headers: Record<string, string> = {},
) =>
  from.fetch('/v1/chat/completions', {
    key,
    headers,
    json: { model: 'gpt-5-mini', max_tokens: 100, messages: [{ role: 'user', content: 'A long question' }], ...body },
  });
const jsonOf = (response: Response): Promise<Json> => response.json();
const fromFile = {
  rate_limit: {
    enabled: false,
    requests_per_minute: 7,
    tokens_per_minute: 100_000,
    max_wait: 60,
    when_unavailable: 'open',
  },
  budgets: { unpriced_models: 'refuse_with_hard_budget' },
  logging: { prompt_preview: 5 },
  retry: { retry_delay: 1 },
  stored: [],
};

describe('stored settings', () => {
  it('replace gateway.yaml’s section by section, until they are removed', async () => {
    expect(await gateway.json(PATH)).toEqual(fromFile);
    const rate_limit = { enabled: true, max_wait: 1 };
    const stored = await jsonOf(await put({ rate_limit, retry: {} }));
    // What a given section leaves out has its default, not gateway.yaml's value.
    expect(stored).toEqual({
      ...fromFile,
      rate_limit: { ...fromFile.rate_limit, ...rate_limit, requests_per_minute: 60 },
      stored: ['rate_limit', 'retry'],
    });
    expect(await jsonOf(await put({ logging: { prompt_preview: 9 } }))).toEqual({
      ...fromFile,
      logging: { prompt_preview: 9 },
      stored: ['logging'],
    });
    expect((await gateway.fetch(PATH, { method: 'DELETE' })).status).toBe(204);
    expect(await gateway.json(PATH)).toEqual(fromFile);
  });

  it('hold for requests at every front door within about a second', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey();
    const before = await ask(other, key);
    expect(before.headers.has('x-ratelimit-limit-requests')).toBe(false);
    await put({ rate_limit: { enabled: true, requests_per_minute: 40 }, logging: { prompt_preview: 6 } });
    const changedAt = Date.now();
    await eventually(async () => (await other.json(PATH)).stored.length === 2);
    // A second, and what a busy machine adds.
    expect(Date.now() - changedAt).toBeLessThan(4_000);
    for (const from of [gateway, other]) {
      const answer = await ask(from, key);
      expect(answer.headers.get('x-ratelimit-limit-requests')).toBe('40');
      expect(await gateway.json(`/logs/${answer.headers.get('x-holdfast-run-id')}`)).toMatchObject({
        prompt: 'A long',
      });
    }
    await gateway.fetch(PATH, { method: 'DELETE' });
    await eventually(async () => (await other.json(PATH)).stored.length === 0);
    const after = await ask(other, key);
    expect(after.headers.has('x-ratelimit-limit-requests')).toBe(false);
    expect(await gateway.json(`/logs/${after.headers.get('x-holdfast-run-id')}`)).toMatchObject({ prompt: 'A lon' });
  });

  it('decide about models without a price, waiting for limits, and the delay before a second call', async () => {
    const { key } = await makeKey({ rateLimit: { rpm: 100, concurrent: 1 } });
    const unpriced = { model: 'openai/not-in-the-catalogue' };
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    expect((await ask(gateway, key, unpriced)).status).toBe(200);
    await put({ budgets: { unpriced_models: 'refuse' }, rate_limit: { max_wait: 0 }, retry: { retry_delay: 3 } });
    expect(await jsonOf(await ask(gateway, key, unpriced))).toMatchObject({ error: { code: 'model_not_priced' } });

    let calls = 0;
    upstream.reply = () => {
      calls += 1;
      return calls === 1 ? { status: 500, body: { error: { message: 'oops' } } } : { body: openaiCompletion('hi') };
    };
    const startedAt = Date.now();
    const retried = ask(gateway, key);
    await eventually(async () => calls === 1);
    expect((await ask(gateway, key, {}, { 'x-holdfast-max-wait': '30' })).status).toBe(429);
    expect((await retried).status).toBe(200);
    expect(Date.now() - startedAt).toBeGreaterThan(2_900);
    await gateway.fetch(PATH, { method: 'DELETE' });
  });

  it('are refused where they make no sense, and with them the sections that cannot change', async () => {
    const paramOf = async (json: unknown) => (await jsonOf(await put(json))).error?.param;
    expect(await paramOf({ rate_limit: { requests_per_minute: 0 } })).toBe('rate_limit.requests_per_minute');
    expect(await paramOf({ budgets: { sweep_interval: 1 } })).toMatch(/^budgets/);
    expect(await paramOf({ retry: { retry_delay: 31 } })).toBe('retry.retry_delay');
    expect((await put({ server: { request_deadline: 1 } })).status).toBe(400);
    expect((await put(null)).status).toBe(400);
    expect(await gateway.json(PATH)).toEqual(fromFile);
  });

  it('are for those who manage settings, and each change is in the audit log', async () => {
    const { key } = await makeKey({ roles: ['operator'] });
    expect((await gateway.fetch(PATH, { key })).status).toBe(403);
    expect((await put({}, key)).status).toBe(403);
    const changed = await put({ rate_limit: { enabled: true, tokens_per_minute: 9 } });
    const removed = await gateway.fetch(PATH, { method: 'DELETE' });
    const { data } = await gateway.json('/api/v1/audit-log?limit=2');
    expect(data).toMatchObject([
      { action: 'settings.delete', actor: 'master', request_id: removed.headers.get('x-request-id') },
      {
        action: 'settings.put',
        request_id: changed.headers.get('x-request-id'),
        changes: { rate_limit: { enabled: true, tokens_per_minute: 9 } },
      },
    ]);
  });
});

describe.skipIf(inject('redis') === null)('without Redis', () => {
  it('the settings in force when a request came in say whether it is refused', async () => {
    const redis = await new RedisServer().start();
    const alone = await startGateway(config(), 'configured', { redisUrl: redis.url });
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey({ rateLimit: { rpm: 1_000 } });
    await redis.stop();
    expect((await ask(alone, key)).status).toBe(200);
    await alone.fetch(PATH, { method: 'PUT', json: { rate_limit: { when_unavailable: 'closed' } } });
    expect((await ask(alone, key)).status).toBe(503);
    await alone.fetch(PATH, { method: 'DELETE' });
    expect((await ask(alone, key)).status).toBe(200);
    await alone.stop();
  });
});
