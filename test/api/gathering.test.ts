import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { OpenAIBatchApi } from '../support/openai-batch-api.ts';
import { openaiCompletion } from '../support/shapes.ts';

describe('jobs that may wait for others', () => {
  const upstream = new OpenAIBatchApi();
  let gateway: TestGateway;
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.server.url}/v1", api_key: k, default_model: gpt-5-mini, batches: true }
  other: { type: openai, base_url: "${upstream.server.url}/v1", api_key: k, default_model: other-model }
retry: { retry_delay: 0.01 }
`,
      'configured',
    );
  });
  afterAll(async () => {
    await gateway.stop();
    await upstream.server.stop();
  });
  beforeEach(() => upstream.reset());

  const submit = async (content: string, model = 'gpt-5-mini', gather = true): Promise<string> => {
    const body = { model, max_tokens: 100, messages: [{ role: 'user', content }] };
    const json = { endpoint: '/v1/chat/completions', body, gather };
    return (await gateway.json('/v1/jobs', { json })).id;
  };
  const ended = (id: string): Promise<Json> =>
    eventually(async () => {
      const job = await gateway.json(`/v1/jobs/${id}`);
      return job.completed_at !== null && job;
    });
  const attempts = async (id: string): Promise<Json[]> => (await gateway.json(`/logs/${id}`)).attempts;

  it('go to the provider in batches of ten at most, at the price of a batch', async () => {
    const ids = await Promise.all(Array.from({ length: 12 }, (_, n) => submit(`hello ${n}`)));
    const jobs = await Promise.all(ids.map(ended));
    for (const job of jobs) {
      expect(job.result.choices[0].message.content).toBe('batched');
      expect(job).toMatchObject({ status: 'completed' });
    }
    expect(upstream.single).toBe(0);
    expect(upstream.batches.length).toBeGreaterThan(1);
    expect(upstream.batches.flatMap(({ lines }) => lines)).toHaveLength(12);
    for (const { lines } of upstream.batches) expect(lines.length).toBeLessThanOrEqual(10);

    const alone = await ended(await submit('hello', 'gpt-5-mini', false));
    expect(alone.cost_usd).toBeGreaterThan(0);
    expect(jobs[0].cost_usd).toBeCloseTo(alone.cost_usd / 2, 9);
    expect(await attempts(jobs[0].id)).toMatchObject([{ state: 'succeeded', n: 1 }]);
  });

  it('are called by themselves where the batch did not answer them', async () => {
    upstream.answer = (content) => {
      if (content === 'missing') return undefined;
      if (content === 'overloaded') return { status: 503, body: { error: { message: 'busy' } } };
      if (content === 'bad') return { status: 400, body: { error: { message: 'bad', type: 'invalid_request_error' } } };
      return { status: 200, body: openaiCompletion('batched') };
    };
    const [missing, overloaded, bad, good] = await Promise.all(
      ['missing', 'overloaded', 'bad', 'good'].map((c) => submit(c)),
    );
    expect((await ended(missing ?? '')).result.choices[0].message.content).toBe('single');
    expect((await ended(overloaded ?? '')).result.choices[0].message.content).toBe('single');
    expect((await ended(bad ?? '')).status).toBe('failed');
    expect((await ended(good ?? '')).result.choices[0].message.content).toBe('batched');
    expect(upstream.single).toBe(2);
    expect(await attempts(missing ?? '')).toMatchObject([{ n: 1, state: 'succeeded' }]);
    expect(await attempts(overloaded ?? '')).toMatchObject([
      { n: 1, state: 'failed', cost_usd: 0 },
      { n: 2, state: 'succeeded' },
    ]);
  });

  it('are called by themselves when the provider does not take the batch', async () => {
    upstream.refuse = () => ({ status: 403, body: { error: { message: 'no batches for you' } } });
    const ids = await Promise.all(['a', 'b'].map((content) => submit(content)));
    for (const id of ids) {
      expect((await ended(id)).result.choices[0].message.content).toBe('single');
      expect(await attempts(id)).toMatchObject([{ n: 1, state: 'succeeded' }]);
    }
  });

  it('find the batch again whose submission was cut off', async () => {
    upstream.loseAnswer = true;
    const id = await submit('hello');
    expect((await ended(id)).result.choices[0].message.content).toBe('batched');
    expect(await attempts(id)).toMatchObject([{ n: 1, state: 'succeeded' }]);
    expect([upstream.batches.length, upstream.single]).toEqual([1, 0]);
  });

  it('do not wait where the provider has no batches', async () => {
    expect((await ended(await submit('hello', 'other/other-model'))).result.choices[0].message.content).toBe('single');
  });
});
