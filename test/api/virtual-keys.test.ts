import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion } from '../support/shapes.ts';

const upstream = new FixtureServer();
let gateway: TestGateway;
beforeAll(async () => {
  await upstream.start();
  gateway = await startGateway(
    `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini, timeout: 30 }
models:
  house: [ { provider: openai, model: gpt-5-mini } ]
fallback: { enabled: false }
`,
    'configured',
  );
});
afterAll(async () => {
  await gateway.stop();
  await upstream.stop();
});

const makeKey = async (settings: Record<string, unknown> = {}) => {
  const response = await gateway.fetch('/config/virtual-keys', { json: { name: 'test', ...settings } });
  expect(response.status).toBe(201);
  return (await response.json()) as { id: string; key: string };
};
const ask = (key: string, body: Record<string, unknown> = {}, headers: Record<string, string> = {}) =>
  gateway.fetch('/v1/chat/completions', {
    key,
    headers,
    json: { model: 'gpt-5-mini', max_tokens: 100, messages: [{ role: 'user', content: 'hi' }], ...body },
  });
const spend = async (id: string) => {
  const { spentUsd, reservedUsd } = await gateway.json(`/config/virtual-keys/${id}`);
  return { spentUsd, reservedUsd };
};
const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; message: string } }).error;

describe('a virtual key', () => {
  it('is shown once, listed without itself, changed and deleted', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { id, key } = await makeKey({ team: 'alpha', rateLimit: { rpm: 100, tpm: 100_000 }, costCap: 1.5 });
    expect(key).toMatch(/^sk-hf-/);
    expect((await ask(key)).status).toBe(200);
    const entity = await gateway.json(`/config/virtual-keys/${id}`);
    expect(entity).toMatchObject({
      id,
      name: 'test',
      team: 'alpha',
      rateLimit: { rpm: 100, tpm: 100_000 },
      costCap: 1.5,
      isActive: true,
    });
    expect(JSON.stringify(entity)).not.toContain(key);
    expect(key.startsWith(entity.prefix)).toBe(true);

    const patched = await gateway.json(`/config/virtual-keys/${id}`, {
      method: 'PATCH',
      json: { name: 'new', costCap: null },
    });
    expect(patched).toMatchObject({ name: 'new', costCap: null, team: 'alpha', rateLimit: { rpm: 100 } });

    const deleted = await gateway.fetch(`/config/virtual-keys/${id}`, { method: 'DELETE' });
    expect(deleted.status).toBe(204);
    await eventually(async () => (await ask(key)).status === 401);
    expect((await gateway.fetch(`/config/virtual-keys/${id}`, { method: 'DELETE' })).status).toBe(404);
  });

  it('is paged through', async () => {
    await Promise.all([1, 2, 3].map(() => makeKey()));
    const seen = new Set<string>();
    let cursor: string | null = null;
    do {
      const page: { data: { id: string }[]; next_cursor: string | null } = await gateway.json(
        `/config/virtual-keys?limit=2${cursor ? `&cursor=${cursor}` : ''}`,
      );
      for (const { id } of page.data) {
        expect(seen.has(id)).toBe(false);
        seen.add(id);
      }
      cursor = page.next_cursor;
    } while (cursor);
    expect(seen.size).toBeGreaterThanOrEqual(3);
  });

  it('may not administer', async () => {
    const { key } = await makeKey();
    expect((await gateway.fetch('/config/virtual-keys', { key })).status).toBe(403);
  });

  it('stops working when it is switched off or expires', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { id, key } = await makeKey();
    await gateway.fetch(`/config/virtual-keys/${id}`, { method: 'PATCH', json: { isActive: false } });
    await eventually(async () => (await ask(key)).status === 401);
    const expired = await makeKey({ expiresAt: new Date(Date.now() - 1_000).toISOString() });
    expect(await errorOf(await ask(expired.key))).toMatchObject({ message: 'This API key has expired.' });
  });

  it('uses its default model when a request names none', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey({ defaultModel: 'house' });
    const response = await ask(key, { model: undefined });
    expect(response.status).toBe(200);
    expect(upstream.last.body.model).toBe('gpt-5-mini');
  });

  it('is kept to its models', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey({ allowedModels: ['house', 'gpt-4o'] });
    expect((await ask(key, { model: 'house' })).status).toBe(200);
    expect((await ask(key, { model: 'openai/gpt-4o' })).status).toBe(200);
    const refused = await ask(key, { model: 'gpt-5-mini' });
    expect(refused.status).toBe(403);
    expect(await errorOf(refused)).toMatchObject({ code: 'model_not_allowed' });
    const { data } = await gateway.json('/v1/models', { key });
    expect(data.map((model: { id: string }) => model.id).sort()).toEqual(['gpt-4o', 'house']);
  });

  it('sees its team’s rows of the ledger and nobody else’s', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const team = crypto.randomUUID();
    const [mine, mate, stranger] = await Promise.all([makeKey({ team }), makeKey({ team }), makeKey()]);
    const made = (await (await ask(mine.key)).json()) as { id: string };
    expect((await gateway.fetch(`/logs/${made.id}`, { key: mate.key })).status).toBe(200);
    expect((await gateway.fetch(`/v1/chat/completions/${made.id}`, { key: mate.key })).status).toBe(200);
    expect((await gateway.fetch(`/logs/${made.id}`, { key: stranger.key })).status).toBe(404);
    expect((await gateway.fetch(`/v1/chat/completions/${made.id}`, { key: stranger.key })).status).toBe(404);
    expect(await gateway.json('/logs', { key: stranger.key })).toMatchObject({ data: [] });
    expect(await gateway.json(`/metrics/usage?team=${team}`, { key: stranger.key })).toEqual({ data: [] });
  });

  it('of a service may say for which team a request counts; it stays its own', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const team = crypto.randomUUID();
    const [member, teamless, person] = await Promise.all([makeKey({ team }), makeKey({ kind: 'service' }), makeKey()]);
    const requestId = crypto.randomUUID();
    const headers = { 'x-request-id': requestId };
    const made = await ask(teamless.key, { metadata: { team } }, headers);
    expect(made.status).toBe(200);
    const { id } = (await made.json()) as { id: string };
    expect(await gateway.json(`/logs/${id}`)).toMatchObject({ team });
    expect((await gateway.fetch(`/v1/chat/completions/${requestId}`, { key: teamless.key })).status).toBe(200);
    expect((await gateway.fetch(`/logs/${id}`, { key: member.key })).status).toBe(404);
    expect((await ask(member.key, {}, headers)).status).toBe(200);
    const own = (await (await ask(person.key, { metadata: { team } })).json()) as { id: string };
    expect(await gateway.json(`/logs/${own.id}`)).toMatchObject({ team: null });
  });
});

describe('a rate limit', () => {
  it('of requests is a 429 that says when to come back', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey({ rateLimit: { rpm: 2 } });
    const statuses = [];
    let last: Response | undefined;
    // A fourth request covers the turn of the minute between the first and the third.
    for (let i = 0; i < 4 && last?.status !== 429; i += 1) {
      last = await ask(key);
      statuses.push(last.status);
    }
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(2);
    expect(last?.status).toBe(429);
    expect(Number(last?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await errorOf(last as Response)).toMatchObject({ code: 'rate_limit_exceeded' });
  });

  it('of tokens refuses a request that can never fit', async () => {
    const { key } = await makeKey({ rateLimit: { tpm: 50 } });
    const refused = await ask(key, { messages: [{ role: 'user', content: 'x'.repeat(1_000) }] });
    expect(refused.status).toBe(429);
    expect(await errorOf(refused)).toMatchObject({ message: expect.stringContaining('limit of 50 tokens per minute') });
  });
});

describe('a cost cap', () => {
  // gpt-5-mini costs $0.25 and $2 per million tokens: 10 + 5 tokens are 12,500 nano-dollars.
  const COST = 0.0000125;

  it('counts what was spent and holds nothing back', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { id, key } = await makeKey({ costCap: 1 });
    await ask(key);
    await eventually(async () => (await spend(id)).reservedUsd === 0);
    expect((await spend(id)).spentUsd).toBeCloseTo(COST, 12);
  });

  it('refuses what could pass it, without calling anybody', async () => {
    const { id, key } = await makeKey({ costCap: 0.0001 });
    upstream.reset();
    const refused = await ask(key);
    expect(refused.status).toBe(429);
    expect(await errorOf(refused)).toMatchObject({ code: 'insufficient_quota' });
    expect(upstream.received).toHaveLength(0);
    expect(await spend(id)).toEqual({ spentUsd: 0, reservedUsd: 0 });
  });

  it('holds under a rush of requests, and everything is accounted for', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi'), delayMs: 20 });
    upstream.reset();
    const { id, key } = await makeKey({ costCap: 0.005 });
    const responses = await Promise.all(Array.from({ length: 60 }, () => ask(key)));
    const ok = responses.filter((response) => response.status === 200).length;
    expect(ok).toBeGreaterThan(0);
    expect(responses.filter((response) => response.status === 429).length).toBe(60 - ok);
    await eventually(async () => (await spend(id)).reservedUsd === 0);
    expect(upstream.received).toHaveLength(ok);
    expect((await spend(id)).spentUsd).toBeCloseTo(ok * COST, 10);
    const usage = await gateway.json(`/metrics/usage?group_by=key&key=${id}`);
    expect(usage.data).toEqual([
      {
        group: id,
        requests: 60,
        failures: 60 - ok,
        prompt_tokens: 10 * ok,
        completion_tokens: 5 * ok,
        cost_usd: expect.closeTo(ok * COST, 10),
      },
    ]);
  });

  it('sets an output limit upstream where the caller set none', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey({ costCap: 10 });
    await ask(key, { max_tokens: undefined });
    expect(upstream.last.body.max_tokens).toBe(128_000);
    const uncapped = await makeKey();
    await ask(uncapped.key, { max_tokens: undefined });
    expect(upstream.last.body).not.toHaveProperty('max_tokens');
  });

  it('cannot be kept on a model without a price, so that is refused', async () => {
    const { key } = await makeKey({ costCap: 10 });
    const refused = await ask(key, { model: 'openai/some-new-model' });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: 'model_not_priced' });
  });
});
