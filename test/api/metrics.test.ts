import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion, openaiStream } from '../support/shapes.ts';

const upstream = new FixtureServer();
let gateway: TestGateway;
beforeAll(async () => {
  await upstream.start();
  gateway = await startGateway(`
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-4o, max_retries: 1 }
fallback: { enabled: false }
`);
});
afterAll(async () => {
  await gateway.stop();
  await upstream.stop();
});

const makeKey = async (settings: Record<string, unknown> = {}): Promise<{ id: string; key: string }> =>
  gateway.json('/config/virtual-keys', { json: { name: 'test', ...settings } });
const ask = (key: string, body: Record<string, unknown> = {}, signal?: AbortSignal) =>
  gateway.fetch('/v1/chat/completions', {
    key,
    ...(signal && { signal }),
    json: { model: 'gpt-4o', max_tokens: 100, messages: [{ role: 'user', content: 'hi' }], ...body },
  });

// Prometheus reads numbers as Go's ParseFloat does: in any case.
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*)\})? (-?[\d.e+-]+|[+-]?Inf|nan)$/i;

/** Every sample by its name and sorted labels. Throws on a line that is not Prometheus' text format. */
function parse(text: string): ReadonlyMap<string, number> {
  const samples = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || /^# (HELP|TYPE) \w+ /.test(line)) continue;
    const [, name, labels = '', value] = SAMPLE.exec(line) ?? [];
    if (name === undefined) throw new Error(`Not a sample: ${line}`);
    const sample = `${name}{${labels.split(',').sort().join(',')}}`;
    if (samples.has(sample)) throw new Error(`Twice: ${sample}`);
    samples.set(sample, Number(value));
  }
  return samples;
}

const scrape = async (key?: string) => {
  const response = await gateway.fetch('/metrics', key === undefined ? {} : { key });
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  return parse(await response.text());
};
const requestsOf = async (surface: string, status: number) =>
  (await scrape()).get(`holdfast_requests_total{status="${status}",surface="${surface}"}`) ?? 0;

describe('GET /metrics', () => {
  it('carries what budgets allow, have spent and have set aside, and their warnings', async () => {
    const team = `with "quotes" ${crypto.randomUUID()}`;
    const budget = { scope: { type: 'team', id: team }, period: 'monthly', kind: 'hard', limit_usd: 0.003 };
    const made = await gateway.json('/api/v1/budgets', { json: budget });
    const before = (await scrape()).get('holdfast_budget_alerts_total{threshold="50"}') ?? Number.NaN;
    const { key } = await makeKey({ team });
    // gpt-4o: 400 × $2.5 + 100 × $10 per million
    const usage = { prompt_tokens: 400, completion_tokens: 100, total_tokens: 500 };
    upstream.reply = () => ({ body: openaiCompletion('hi', usage) });
    expect((await ask(key)).status).toBe(200);

    const labels = `kind="hard",period="monthly",scope_id="${team.replaceAll('"', '\\"')}",scope_type="team"`;
    const samples = await eventually(async () => {
      const scraped = await scrape();
      return scraped.get(`holdfast_budget_spent_usd{${labels}}`) === 0.002 && scraped;
    });
    expect(samples.get(`holdfast_budget_limit_usd{${labels}}`)).toBe(0.003);
    expect(samples.get(`holdfast_budget_reserved_usd{${labels}}`)).toBe(0);
    expect(samples.get('holdfast_budget_alerts_total{threshold="50"}')).toBe(before + 1);
    expect(samples.has('holdfast_budget_alerts_total{threshold="100"}')).toBe(true);

    await gateway.fetch(`/api/v1/budgets/${made.id}`, { method: 'DELETE' });
    expect((await scrape()).has(`holdfast_budget_limit_usd{${labels}}`)).toBe(false);
  });

  it('counts and times model calls by surface and status, those that were refused or given up too', async () => {
    const { key } = await makeKey();
    const ok = await requestsOf('chat.completions', 200);
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    await (await ask(key)).text();
    await (await ask('sk-nobody')).text();
    const json = { messages: [{ role: 'user', content: 'hi' }], provider: 'openai' };
    expect((await gateway.fetch('/v1/generate', { key, json })).status).toBe(200);
    upstream.reply = () => ({ chunks: openaiStream(['a']) });
    await (await ask(key, { stream: true })).text();
    upstream.reset();
    upstream.reply = () => ({ body: openaiCompletion('hi'), until: new Promise(() => {}) });
    const abort = new AbortController();
    const given = ask(key, {}, abort.signal).catch(() => 'gone');
    await eventually(async () => upstream.received.length === 1);
    abort.abort();
    expect(await given).toBe('gone');

    await eventually(async () => (await requestsOf('chat.completions', 499)) === 1);
    expect(await requestsOf('chat.completions', 200)).toBe(ok + 2);
    expect(await requestsOf('chat.completions', 401)).toBe(1);
    expect(await requestsOf('generate', 200)).toBe(1);
    const samples = await scrape();
    const total = [...samples]
      .filter(([name]) => name.startsWith('holdfast_requests_total') && name.includes('"chat.completions"'))
      .reduce((sum, [, value]) => sum + value, 0);
    expect(samples.get('holdfast_request_duration_seconds_count{surface="chat.completions"}')).toBe(total);
    expect(samples.get('holdfast_request_duration_seconds_sum{surface="generate"}')).toBeGreaterThan(0);
    expect(samples.get('process_cpu_seconds_total{}')).toBeGreaterThan(0);
  });

  it('is for callers who see everything', async () => {
    const [admin, lead, viewer] = await Promise.all([
      makeKey({ roles: ['admin'] }),
      makeKey({ roles: ['admin'], team: crypto.randomUUID() }),
      makeKey({ roles: ['viewer'] }),
    ]);
    expect((await scrape(admin.key)).size).toBeGreaterThan(0);
    expect((await gateway.fetch('/metrics', { key: lead.key })).status).toBe(403);
    expect((await gateway.fetch('/metrics', { key: viewer.key })).status).toBe(403);
    expect((await fetch(`${gateway.url}/metrics`)).status).toBe(401);
  });
});
