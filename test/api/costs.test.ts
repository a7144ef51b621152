import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion } from '../support/shapes.ts';

const upstream = new FixtureServer();
const config = (extra = '') => `
default_provider: openai
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-4o }
  other: { type: openai, base_url: "${upstream.url}/other/v1", api_key: k, vendor: openai, default_model: gpt-4o }
fallback: { fallback_order: [other] }
models:
  house: [ { provider: openai, model: gpt-4o } ]
${extra}`;

let gateway: TestGateway;
beforeAll(async () => {
  await upstream.start();
  gateway = await startGateway(config('reports: { schedule: daily }'), 'configured');
});
afterAll(async () => {
  await gateway.fetch('/api/v1/routing-policies', { method: 'DELETE' });
  await gateway.stop();
  await upstream.stop();
});

const unique = () => crypto.randomUUID().slice(0, 8);
const put = (path: string, json: unknown) => gateway.fetch(path, { method: 'PUT', json });
const makeKey = async (settings: Record<string, unknown> = {}): Promise<{ id: string; key: string }> =>
  gateway.json('/config/virtual-keys', { json: { name: 'test', ...settings } });
const ask = (key: string, body: Record<string, unknown> = {}) =>
  gateway.fetch('/v1/chat/completions', {
    key,
    json: { model: 'gpt-4o', max_tokens: 100, messages: [{ role: 'user', content: 'hi' }], ...body },
  });
const jsonOf = (response: Response): Promise<Json> => response.json();
const errorOf = async (response: Response) => (await jsonOf(response)).error;

describe('GET /api/v1/costs/summary', () => {
  it('sums up what a caller may see, with cache savings and a forecast', async () => {
    const [team, feature] = [`team-${unique()}`, unique()];
    const { key } = await makeKey({ team });
    const usage = {
      prompt_tokens: 1_000,
      completion_tokens: 100,
      total_tokens: 1_100,
      prompt_tokens_details: { cached_tokens: 600 },
    };
    upstream.reply = () => ({ body: openaiCompletion('hi', usage) });
    expect((await ask(key, { metadata: { feature } })).status).toBe(200);
    const stranger = await makeKey({ team: `team-${unique()}` });
    expect((await ask(stranger.key)).status).toBe(200);

    // gpt-4o: 400 × $2.5 + 600 × $1.25 + 100 × $10 per million
    const cost_usd = 0.00275;
    const figures = { requests: 1, failures: 0, cost_usd, billed_usd: cost_usd, unknown_usd: 0, cached_tokens: 600 };
    const own = await eventually(async () => {
      const summary = await gateway.json('/api/v1/costs/summary?group_by=feature', { key });
      return summary.data.length > 0 && summary;
    });
    expect(own.data).toEqual([expect.objectContaining({ group: feature, ...figures, cache_savings_usd: 0.00075 })]);
    expect(own.total).toMatchObject(figures);
    expect(own.forecast).toEqual({
      until: expect.stringMatching(/^\d{4}-\d\d-01T00:00:00.000Z$/),
      cost_usd: expect.any(Number),
      method: expect.stringContaining('run rate'),
    });
    expect(own.forecast.cost_usd).toBeGreaterThanOrEqual(cost_usd);
    expect(own.next_cursor).toBeNull();

    const all = await gateway.json('/api/v1/costs/summary?group_by=team&period=day');
    expect(all.data.map(({ group }: { group: string }) => group)).toContain(team);
    expect((await gateway.json(`/api/v1/costs/summary?team=${team}&group_by=day&period=all`)).total.requests).toBe(1);
    expect((await gateway.json(`/api/v1/costs/summary?team=${team}&until=2020-01-01&period=all`)).total.requests).toBe(
      0,
    );
    expect((await gateway.fetch('/api/v1/costs/summary?group_by=colour')).status).toBe(400);
  });
});

describe('POST /v1/estimate', () => {
  const estimate = (json: Record<string, unknown>, key?: string) =>
    gateway.json('/v1/estimate', { json, ...(key && { key }) });
  const messages = [{ role: 'user', content: 'Tell me a story.' }];

  it('says what each target of the plan would cost, and calls nobody', async () => {
    const calls = upstream.received.length;
    const body = { model: 'gpt-4o', messages, max_tokens: 1_000, expected_output_tokens: 200 };
    const { targets, budget } = await estimate(body);
    expect(targets.map(({ provider }: { provider: string }) => provider)).toEqual(['openai', 'other']);
    const [{ input_tokens, cost_usd, ...rest }] = targets;
    expect(input_tokens).toBeGreaterThan(3);
    expect(input_tokens).toBeLessThan(30);
    expect(cost_usd.expected).toBeCloseTo((input_tokens * 2.5 + 200 * 10) / 1e6, 9);
    expect(cost_usd.max).toBeGreaterThan(1_000 * 1e-5);
    expect(rest).toMatchObject({
      model: 'gpt-4o',
      output_tokens: { expected: 200, max: 1_000, basis: 'given' },
      context_window: 128_000,
      fits: true,
    });
    expect(budget).toEqual([]);
    expect(upstream.received).toHaveLength(calls);
  });

  it('learns what a model puts out, and never expects more than the limit', async () => {
    const { key } = await makeKey();
    const usage = { prompt_tokens: 10, completion_tokens: 42, total_tokens: 52 };
    upstream.reply = () => ({ body: openaiCompletion('hi', usage) });
    expect((await estimate({ model: 'gpt-4.1', messages }, key)).targets[0].output_tokens.basis).toBe('default');
    expect((await ask(key, { model: 'o3' })).status).toBe(200);
    const [target] = (await estimate({ model: 'o3', messages }, key)).targets;
    expect(target.output_tokens).toMatchObject({ expected: 42, basis: 'learned' });
    const [limited] = (await estimate({ model: 'o3', messages, max_tokens: 7 }, key)).targets;
    expect(limited.output_tokens).toMatchObject({ expected: 7, max: 7 });
    expect(limited.cost_usd.expected).toBeLessThanOrEqual(limited.cost_usd.max);
  });

  it('says whether the request fits the context window', async () => {
    const long = [{ role: 'user', content: 'word '.repeat(130_000) }];
    const { targets } = await estimate({ model: 'gpt-4o', messages: long });
    expect(targets[0]).toMatchObject({ fits: false, context_window: 128_000 });
    expect(targets[0].input_tokens).toBeGreaterThan(128_000);
  });

  it('holds the caller’s budgets against the most it can cost', async () => {
    const { id, key } = await makeKey({ costCap: 0.01 });
    const budgetOf = async (max_tokens: number) =>
      (await estimate({ model: 'gpt-4o', messages, max_tokens }, key)).budget;
    const budget = { scope: { type: 'key', id }, period: 'monthly', kind: 'hard', remaining_usd: 0.01 };
    expect(await budgetOf(100)).toEqual([{ ...budget, sufficient: true }]);
    expect(await budgetOf(2_000)).toEqual([{ ...budget, sufficient: false }]);
  });

  it('refuses what the gateway would refuse', async () => {
    const { key } = await makeKey({ allowedModels: ['house'] });
    const response = await gateway.fetch('/v1/estimate', { key, json: { model: 'gpt-4.1', messages } });
    expect((await errorOf(response)).code).toBe('model_not_allowed');
  });
});

describe('stored models', () => {
  const entry = (input: number) => ({
    context_window: 1_000,
    max_output_tokens: 100,
    price: { input, output: 2 },
    price_changes: [{ from: '2999-01-01', input: 50, output: 50 }],
    vendors: { openai: 'new-model-id' },
  });

  it('are served and priced at once, and within a second by every other process', async () => {
    const id = `lab/new-${unique()}`;
    const path = `/api/v1/models/${encodeURIComponent(id)}`;
    const second = await startGateway(config(), 'configured');
    try {
      expect((await errorOf(await ask((await makeKey()).key, { model: id }))).code).toBe('model_not_found');
      const response = await put(path, entry(10));
      expect(await response.json()).toMatchObject({
        id,
        providers: [
          { provider: 'openai', model: 'new-model-id' },
          { provider: 'other', model: 'new-model-id' },
        ],
        context_window: 1_000,
        price: { input: 10, output: 2, cached_input: 10, valid_until: '2999-01-01' },
        price_changes: [{ input: 50, valid_from: '2999-01-01', valid_until: null }],
        source: 'stored',
      });
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      const { metadata } = await jsonOf(await ask((await makeKey()).key, { model: id }));
      expect(metadata.cost_usd).toBe((10 * 10 + 5 * 2) / 1e6);
      expect(upstream.last.body).toMatchObject({ model: 'new-model-id' });

      const elsewhere = () => second.fetch(path).then((answer) => answer.status);
      await eventually(async () => (await elsewhere()) === 200, 3_000);
      await put(path, entry(20));
      expect((await gateway.json(path)).price.input).toBe(20);
      expect((await gateway.fetch(path, { method: 'DELETE' })).status).toBe(204);
      expect((await gateway.fetch(path)).status).toBe(404);
      await eventually(async () => (await elsewhere()) === 404, 3_000);
    } finally {
      await second.stop();
    }
  });

  it('replace those of the files until they are removed', async () => {
    const path = '/api/v1/models/gpt-4o-mini';
    const builtIn = await gateway.json(path);
    expect(builtIn).toMatchObject({ source: 'built_in', price: { input: 0.15, cached_input: 0.075 } });
    expect((await jsonOf(await put(path, entry(7)))).source).toBe('stored');
    expect((await gateway.fetch(path, { method: 'DELETE' })).status).toBe(204);
    expect(await gateway.json(path)).toEqual(builtIn);
    expect((await gateway.fetch(path, { method: 'DELETE' })).status).toBe(404);
  });

  it('are listed page by page, and changed by the master key only', async () => {
    const ids: string[] = [];
    let next: string | null = '';
    while (next !== null) {
      const page: { data: { id: string }[]; next_cursor: string | null } = await gateway.json(
        `/api/v1/models?limit=20${next && `&cursor=${encodeURIComponent(next)}`}`,
      );
      ids.push(...page.data.map(({ id }) => id));
      next = page.next_cursor;
    }
    expect(ids).toContain('llama3.1:8b');
    expect(ids).toEqual([...new Set(ids)].sort());
    const { key } = await makeKey();
    expect((await gateway.fetch('/api/v1/models/x', { method: 'DELETE', key })).status).toBe(403);
    const wrong = await put('/api/v1/models/x', { ...entry(1), price: { input: -1, output: 1 } });
    expect(await errorOf(wrong)).toMatchObject({ code: 'invalid_request', param: 'price.input' });
  });
});

describe('stored routing', () => {
  const path = '/api/v1/routing-policies';

  it('goes before gateway.yaml’s, section by section, until it is removed', async () => {
    const fromFile = await gateway.json(path);
    expect(fromFile).toMatchObject({
      default_provider: 'openai',
      fallback: { enabled: true, fallback_order: ['other'], max_fallback_attempts: 2, retry_original: false },
      models: { house: [{ provider: 'openai', model: 'gpt-4o' }] },
      stored: [],
    });
    const models = { guest: [{ provider: 'other', model: 'gpt-4o' }] };
    const stored = await jsonOf(await put(path, { default_provider: 'other', models }));
    expect(stored).toEqual({ ...fromFile, default_provider: 'other', models, stored: ['default_provider', 'models'] });
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key } = await makeKey();
    expect((await jsonOf(await ask(key, { model: 'guest' }))).metadata.provider).toBe('other');
    expect((await ask(key, { model: 'house' })).status).toBe(404);
    expect((await gateway.fetch(path, { method: 'DELETE' })).status).toBe(204);
    expect(await gateway.json(path)).toEqual(fromFile);
    expect((await ask(key, { model: 'house' })).status).toBe(200);
  });

  it('names providers that exist', async () => {
    const models = { house: [{ provider: 'nobody', model: 'm' }] };
    expect(await errorOf(await put(path, { models }))).toMatchObject({ param: 'models.house[0].provider' });
    expect(await errorOf(await put(path, { default_provider: 'nobody' }))).toMatchObject({ param: 'default_provider' });
    expect((await gateway.json(path)).stored).toEqual([]);
  });
});

describe('a model without a price', () => {
  const unpriced = 'openai/not-in-the-catalogue';
  // No fallback with a price, which would answer instead.
  const allowedModels = [unpriced];
  const code = async (from: TestGateway, key: string) => {
    const json = { model: unpriced, messages: [{ role: 'user', content: 'hi' }] };
    const response = await from.fetch('/v1/chat/completions', { key, json });
    return response.status === 200 ? 'ok' : (await errorOf(response)).code;
  };

  it('is refused where a hard budget applies', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const [capped, free] = [await makeKey({ costCap: 5, allowedModels }), await makeKey({ allowedModels })];
    expect(await code(gateway, capped.key)).toBe('model_not_priced');
    expect(await code(gateway, free.key)).toBe('ok');
  });

  it.each([
    ['refuse', 'model_not_priced', 'model_not_priced'],
    ['allow', 'ok', 'ok'],
  ])('with %s gives %s under a hard budget and %s without', async (setting, hard, without) => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const [capped, free] = [await makeKey({ costCap: 5, allowedModels }), await makeKey({ allowedModels })];
    const other = await startGateway(config(`budgets: { unpriced_models: ${setting} }`), 'configured');
    try {
      expect(await code(other, capped.key)).toBe(hard);
      expect(await code(other, free.key)).toBe(without);
    } finally {
      await other.stop();
    }
  });
});

describe('cost reports', () => {
  it('are made through a workflow, once, and read as JSON and CSV', async () => {
    const make = () => gateway.fetch('/api/v1/reports', { json: { period: 'weekly', since: '2003-06-04' } });
    const made = await make();
    expect(made.status).toBe(201);
    const report = await jsonOf(made);
    expect(report).toMatchObject({
      id: 'weekly-2003-06-02',
      since: '2003-06-02T00:00:00.000Z',
      until: '2003-06-09T00:00:00.000Z',
      data: { total: { requests: 0, cost_usd: 0, markup_usd: 0 }, change: { cost_percent: null } },
    });
    expect(await jsonOf(await make())).toEqual(report);
    expect(await gateway.json(`/api/v1/reports/${report.id}`)).toEqual(report);
    const { data } = await gateway.json('/api/v1/reports');
    expect(data.map(({ id }: { id: string }) => id)).toContain(report.id);
    for (const path of [`/api/v1/reports/${report.id}.csv`, `/api/v1/reports/${report.id}?format=csv`]) {
      const csv = await gateway.fetch(path);
      expect(csv.headers.get('content-type')).toMatch(/^text\/csv/);
      expect(await csv.text()).toMatch(/^section,group,requests,.*\ntotal,,0,/);
    }
  });

  it('are not made of a period that is not over, nor for virtual keys', async () => {
    const json = { period: 'monthly', since: new Date().toISOString() };
    expect(await errorOf(await gateway.fetch('/api/v1/reports', { json }))).toMatchObject({ param: 'since' });
    const { key } = await makeKey();
    expect((await gateway.fetch('/api/v1/reports', { key })).status).toBe(403);
    expect((await gateway.fetch('/api/v1/reports/none')).status).toBe(404);
  });

  it('are made by a schedule that every start of a worker leaves as the config says', async () => {
    const connection = await Connection.connect({ address: inject('temporal') });
    try {
      const { schedule } = new Client({ connection });
      const daily: string[] = [];
      for await (const { scheduleId, spec } of schedule.list()) {
        if (spec?.calendars?.some(({ comment }) => comment === 'daily cost report')) daily.push(scheduleId);
      }
      const [scheduleId = ''] = daily;
      expect(daily).toEqual([expect.stringMatching(/^test-.*-cost-report$/)]);
      await schedule.getHandle(scheduleId).trigger();
      const yesterday = new Date(Date.now() - 24 * 60 * 60 * 1000).toISOString().slice(0, 10);
      await eventually(async () => (await gateway.fetch(`/api/v1/reports/daily-${yesterday}`)).status === 200);
    } finally {
      await connection.close();
    }
  });
});
