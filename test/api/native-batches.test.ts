import { toFile } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { jsonl } from '../support/batches.ts';
import { FixtureServer, type Received, type Reply } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion } from '../support/shapes.ts';

const ENDPOINT = '/v1/chat/completions';

describe('batches by a provider’s own batch API', () => {
  const upstream = new FixtureServer();
  const model = `batched-${crypto.randomUUID()}`;
  let gateway: TestGateway;
  /** What the provider has: uploaded lines, and batches by their ids. */
  let files: Map<string, Json[]>;
  let made: Map<string, Json>;
  /** What a line of a provider's batch comes to. */
  let answer: (line: Json) => Json;
  /** Whether the provider's batches end by themselves. */
  let ends: boolean;

  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, batches: true, max_retries: 2 }
retry: { retry_delay: 0.01 }
`,
      'configured',
    );
    const price = { input: 0.25, output: 2 };
    await gateway.fetch(`/api/v1/models/${model}`, {
      method: 'PUT',
      json: {
        context_window: 100_000,
        max_output_tokens: 10_000,
        price,
        batch: { discount_percent: 50 },
        vendors: { openai: model },
      },
    });
  });
  afterAll(async () => {
    await gateway.fetch(`/api/v1/models/${model}`, { method: 'DELETE' });
    await gateway.stop();
    await upstream.stop();
  });

  const linesOf = (form: string): Json[] =>
    form
      .split(/\r?\n/)
      .filter((text) => text.startsWith('{'))
      .map((text) => JSON.parse(text));
  const shown = (batch: Json) => {
    const over = batch.status !== 'in_progress';
    return { ...batch, ...(over && { output_file_id: `${batch.input_file_id}-out` }) };
  };
  function provider({ method, path, body }: Received): Reply {
    if (method === 'POST' && path === '/v1/files') {
      const id = `file-${files.size}`;
      files.set(id, linesOf(body));
      return { body: { id, object: 'file', purpose: 'batch' } };
    }
    if (method === 'POST' && path === '/v1/batches') {
      const id = `batch_${made.size}`;
      const created_at = Math.floor(Date.now() / 1000);
      made.set(id, { ...body, id, object: 'batch', created_at, status: ends ? 'completed' : 'in_progress' });
      return { body: made.get(id) };
    }
    if (path.startsWith('/v1/batches?')) return { body: { data: [...made.values()], has_more: false } };
    const [, , kind, id = '', action] = path.split('/');
    if (kind === 'batches') {
      const batch = made.get(id);
      if (action === 'cancel') batch.status = 'cancelled';
      return { body: shown(batch) };
    }
    if (kind === 'files') {
      const lines = files.get(id.replace('-out', '')) ?? [];
      return { body: jsonl(...lines.map((line) => ({ custom_id: line.custom_id, ...answer(line) }))) };
    }
    return { body: openaiCompletion('one by one') };
  }
  const answered = (content: string) => ({
    response: { status_code: 200, request_id: 'r', body: openaiCompletion(content) },
    error: null,
  });
  beforeEach(() => {
    upstream.reset();
    upstream.reply = provider;
    files = new Map();
    made = new Map();
    ends = true;
    answer = (line) => answered(`re: ${line.body.messages[0].content}`);
  });

  const create = async (count: number, job: object = {}): Promise<string> => {
    const lines = Array.from({ length: count }, (_, i) => ({
      custom_id: `line-${i}`,
      method: 'POST',
      url: ENDPOINT,
      body: { model, max_tokens: 50, messages: [{ role: 'user', content: `line-${i}` }] },
    }));
    const file = await toFile(jsonl(...lines), 'in.jsonl');
    const { id: input_file_id } = await gateway.client.files.create({ file, purpose: 'batch' });
    const body = { input_file_id, endpoint: ENDPOINT, completion_window: '24h' };
    const response = await gateway.fetch('/v1/jobs', { json: { endpoint: '/v1/batches', body, ...job } });
    expect(response.status).toBe(202);
    return ((await response.json()) as Json).id;
  };
  const reaches = (id: string, status: string) =>
    eventually(async () => {
      const batch = await gateway.json(`/v1/batches/${id}`);
      return batch.status === status && batch;
    }, 40_000);
  const read = async (file: string): Promise<Json[]> =>
    (await (await gateway.client.files.content(file)).text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  const singleCalls = () => upstream.count(/completions/);

  it('are answered together, journalled like other calls, at the price for batches', async () => {
    const id = await create(30);
    const batch = await reaches(id, 'completed');
    expect(batch.request_counts).toEqual({ total: 30, completed: 30, failed: 0 });
    const answers = await read(batch.output_file_id);
    expect(answers.map(({ response }) => response.body.choices[0].message.content)).toEqual(
      Array.from({ length: 30 }, (_, i) => `re: line-${i}`),
    );
    expect(made.size).toBe(1);
    expect(singleCalls()).toBe(0);
    const [first] = answers;
    const log = await gateway.json(`/logs/${first.response.request_id}`);
    expect(log).toMatchObject({ state: 'completed', attempts: [{ state: 'succeeded', n: 1 }] });
    // 10 tokens in at $0.25 a million, 5 out at $2, halved.
    expect(log.cost_usd).toBeCloseTo((10 * 0.25e-6 + 5 * 2e-6) / 2, 9);
    expect((await gateway.json(`/v1/jobs/${id}`)).cost_usd).toBeCloseTo(30 * log.cost_usd, 9);
  });

  it('have lines called one by one that the provider failed', async () => {
    answer = (line) => {
      const n = Number(line.body.messages[0].content.slice(5));
      if (n === 1) return { response: null, error: { code: 'batch_expired', message: 'late' } };
      if (n === 2) return { response: { status_code: 400, body: { error: { message: 'bad' } } }, error: null };
      return answered('together');
    };
    const batch = await reaches(await create(5), 'completed');
    expect(batch.request_counts).toEqual({ total: 5, completed: 4, failed: 1 });
    const contents = (await read(batch.output_file_id)).map(({ response }) => response.body.choices[0].message.content);
    expect(contents).toEqual(['together', 'one by one', 'together', 'together']);
    const [failed] = await read(batch.error_file_id);
    expect(failed).toMatchObject({ custom_id: 'line-2', response: { status_code: 400 } });
    expect(singleCalls()).toBe(1);
  });

  it('are called one by one when the provider does not take them', async () => {
    upstream.reply = (received) =>
      received.path === '/v1/batches' ? { status: 400, body: { error: { message: 'no' } } } : provider(received);
    const batch = await reaches(await create(4), 'completed');
    expect(batch.request_counts.completed).toBe(4);
    expect(singleCalls()).toBe(4);
  });

  it('are found again when the answer to their submit was lost', async () => {
    let lost = false;
    upstream.reply = (received) => {
      const reply = provider(received);
      if (received.path !== '/v1/batches' || lost) return reply;
      lost = true;
      return { chunks: [], cut: true };
    };
    const batch = await reaches(await create(4), 'completed');
    expect(batch.request_counts.completed).toBe(4);
    expect(made.size).toBe(1);
    expect(singleCalls()).toBe(0);
  });

  it('are cancelled at the provider, and keep what it answered', async () => {
    ends = false;
    answer = (line) =>
      line.body.messages[0].content === 'line-0'
        ? answered('in time')
        : { response: null, error: { code: 'batch_cancelled', message: 'cancelled' } };
    const id = await create(3);
    await eventually(async () => made.size === 1);
    await gateway.client.batches.cancel(id);
    const batch = await reaches(id, 'cancelled');
    expect(batch.request_counts).toEqual({ total: 3, completed: 1, failed: 2 });
    expect((await read(batch.output_file_id)).map(({ custom_id }) => custom_id)).toEqual(['line-0']);
    expect(singleCalls()).toBe(0);
  });

  it('hold no more lines than the batch may cost', async () => {
    // The most a line may cost is a third of that.
    const id = await create(10, { max_cost_usd: 0.0003 });
    const batch = await reaches(id, 'completed');
    expect(batch.request_counts.completed).toBe(10);
    expect([...files.values()].map((lines) => lines.length)).toEqual([2]);
    expect(singleCalls()).toBe(8);
  });
});
