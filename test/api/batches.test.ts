import { toFile } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer, type Received } from '../support/fixture-server.ts';
import { eventually, type Json, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion } from '../support/shapes.ts';

const ENDPOINT = '/v1/chat/completions';

/** One is enough of what takes half a minute; the embedded parts serve where nothing else is installed. */
const PARTS: readonly Parts[] = inject('postgres') === null ? ['embedded'] : ['configured'];

describe.each(PARTS)('batches on %s parts', (parts) => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 2 }
retry: { retry_delay: 0.01 }
background: { native_batches: false }
`,
      parts,
    );
  });
  afterAll(async () => {
    await gateway.stop();
    await upstream.stop();
  });
  const asked = ({ body }: Received): string => body.messages[0].content;
  beforeEach(() => {
    upstream.reset();
    upstream.reply = (received) => ({ body: openaiCompletion(`re: ${asked(received)}`) });
  });

  const line = (custom_id: string, body: object = {}) => ({
    custom_id,
    method: 'POST',
    url: ENDPOINT,
    body: { model: 'gpt-5-mini', max_tokens: 50, messages: [{ role: 'user', content: custom_id }], ...body },
  });
  const lines = (count: number) => Array.from({ length: count }, (_, i) => line(`line-${i + 1}`));
  const toJsonl = (all: readonly (object | string)[]) =>
    all.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join('\n');
  const upload = async (all: readonly (object | string)[], client = gateway.client) =>
    (await client.files.create({ file: await toFile(Buffer.from(toJsonl(all)), 'in.jsonl'), purpose: 'batch' })).id;
  const create = async (all: readonly (object | string)[], job: object = {}): Promise<string> => {
    const body = { input_file_id: await upload(all), endpoint: ENDPOINT, completion_window: '24h' };
    const response = await gateway.fetch('/v1/jobs', { json: { endpoint: '/v1/batches', body, ...job } });
    expect(response.status).toBe(202);
    return ((await response.json()) as Json).id;
  };
  const get = (id: string): Promise<Json> => gateway.json(`/v1/batches/${id}`);
  const reaches = (id: string, status: string) =>
    eventually(async () => {
      const batch = await get(id);
      return batch.status === status && batch;
    }, 40_000);
  const act = (id: string, action: string, json: object = {}) => gateway.fetch(`/v1/jobs/${id}/${action}`, { json });
  const job = (id: string, status: string) =>
    eventually(async () => {
      const found = await gateway.json(`/v1/jobs/${id}`);
      return found.status === status && found;
    });
  const read = async (file: string | undefined): Promise<Json[]> =>
    file
      ? (await (await gateway.client.files.content(file)).text())
          .trim()
          .split('\n')
          .map((l) => JSON.parse(l))
      : [];
  const newKey = async () =>
    (await gateway.json('/config/virtual-keys', { json: { name: 'k', team: crypto.randomUUID() } })) as Json;

  /** An upstream that answers when told to. */
  const held = () => {
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    upstream.reply = () => ({ until, body: openaiCompletion('late') });
    return release;
  };

  it('are answered with the official client, in the order of the input', async () => {
    const { client } = gateway;
    const input_file_id = await upload(lines(25));
    const created = await client.batches.create({
      input_file_id,
      endpoint: ENDPOINT,
      completion_window: '24h',
      metadata: { night: 'run' },
      output_expires_after: { anchor: 'created_at', seconds: 7200 },
    });
    expect(created).toMatchObject({ object: 'batch', endpoint: ENDPOINT, input_file_id, metadata: { night: 'run' } });
    expect(created.expires_at).toBe(created.created_at + 24 * 3600);
    const batch = await eventually(async () => {
      const found = await client.batches.retrieve(created.id);
      return found.status === 'completed' && found;
    });
    expect(batch.request_counts).toEqual({ total: 25, completed: 25, failed: 0 });
    expect(batch.usage).toMatchObject({ input_tokens: 250, output_tokens: 125, total_tokens: 375 });
    expect(batch.error_file_id).toBeUndefined();
    const answers = await read(batch.output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(lines(25).map(({ custom_id }) => custom_id));
    expect(answers[3]).toMatchObject({
      error: null,
      response: {
        status_code: 200,
        request_id: expect.any(String),
        body: { object: 'chat.completion', choices: [{ message: { content: 're: line-4' } }] },
      },
    });
    const file = await client.files.retrieve(batch.output_file_id ?? '');
    expect(file).toMatchObject({ purpose: 'batch_output', filename: `${batch.id}_output.jsonl` });
    expect(file.expires_at).toBe(file.created_at + 7200);
    expect((await gateway.json(`/logs/${answers[0].response.request_id}`)).run_id).toBe(batch.id);
    expect((await gateway.json(`/v1/jobs/${batch.id}`)).result.id).toBe(batch.id);
  });

  it('tell of malformed lines by their numbers, and answer the others', async () => {
    const id = await create([
      line('good-1'),
      '{ not json',
      { ...line('method'), method: 'GET' },
      { ...line('url'), url: '/v1/embeddings' },
      { ...line('x'), custom_id: undefined },
      '',
      { ...line('body'), body: 7 },
      line('field', { messages: [] }),
      line('model', { model: 'nobody/knows' }),
      line('good-2'),
    ]);
    const batch = await reaches(id, 'completed');
    expect(batch.request_counts).toEqual({ total: 9, completed: 2, failed: 7 });
    expect(batch.errors.data.map(({ line, code }: Json) => [line, code])).toEqual([
      [2, 'invalid_json_line'],
      [3, 'invalid_method'],
      [4, 'invalid_url'],
      [5, 'invalid_custom_id'],
      [7, 'invalid_body'],
    ]);
    const answers = await read(batch.output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(['good-1', 'good-2']);
    const failed = await read(batch.error_file_id);
    expect(failed.map(({ custom_id, error }) => [custom_id, error?.line])).toEqual([
      [null, 2],
      ['method', 3],
      ['url', 4],
      [null, 5],
      ['body', 7],
      ['field', undefined],
      ['model', undefined],
    ]);
    expect(failed[5].response).toMatchObject({ status_code: 400, body: { error: { param: 'messages' } } });
    expect(failed[6].response).toMatchObject({ status_code: 404, body: { error: { code: 'model_not_found' } } });
    expect(upstream.received.length).toBe(2);
  });

  it('fail as a whole where nothing can be called or ids are ambiguous', async () => {
    const errors = async (all: readonly (object | string)[]) => {
      const failed = await reaches(await create(all), 'failed');
      expect(failed).toMatchObject({ request_counts: { total: 0 }, failed_at: expect.any(Number) });
      return failed.errors.data.map(({ code, line }: Json) => [code, line]);
    };
    expect(await errors([line('a'), line('b'), line('a'), line('b')])).toEqual([
      ['duplicate_custom_id', 3],
      ['duplicate_custom_id', 4],
    ]);
    expect(await errors(['no', 'nothing'])).toEqual([
      ['invalid_json_line', 1],
      ['invalid_json_line', 2],
    ]);
    expect(await errors(['\n'])).toEqual([['empty_file', null]]);
    expect(upstream.received.length).toBe(0);
  });

  it('are refused without an input file of their purpose', async () => {
    const param = async (json: object) => {
      const body = { endpoint: ENDPOINT, completion_window: '24h', ...json };
      const response = await gateway.fetch('/v1/batches', { json: body });
      expect(response.status).toBe(400);
      return ((await response.json()) as Json).error.param;
    };
    expect(await param({ input_file_id: 'file-none' })).toBe('input_file_id');
    const other = await gateway.client.files.create({
      file: await toFile(Buffer.from('x'), 'x'),
      purpose: 'user_data',
    });
    expect(await param({ input_file_id: other.id })).toBe('input_file_id');
    expect(await param({ input_file_id: other.id, completion_window: '1h' })).toBe('completion_window');
    expect(await param({ input_file_id: other.id, endpoint: '/v1/embeddings' })).toBe('endpoint');
  });

  it('go on when lines fail, each under its own error', async () => {
    upstream.reply = (received) =>
      asked(received) === 'line-2'
        ? { status: 400, body: { error: { message: 'no' } } }
        : { body: openaiCompletion('yes') };
    const batch = await reaches(await create(lines(4)), 'completed');
    expect(batch.request_counts).toEqual({ total: 4, completed: 3, failed: 1 });
    const [failed, ...others] = await read(batch.error_file_id);
    expect(others).toEqual([]);
    expect(failed).toMatchObject({
      custom_id: 'line-2',
      error: null,
      response: { status_code: 400, body: { error: { code: 'invalid_request' } } },
    });
  });

  it('take lines of the Responses API', async () => {
    const body = { model: 'gpt-5-mini', input: 'hello', instructions: 'be brief', metadata: { a: 'b' } };
    const input_file_id = await upload([
      { custom_id: 'one', method: 'POST', url: '/v1/responses', body },
      { custom_id: 'two', method: 'POST', url: '/v1/responses', body: { ...body, previous_response_id: 'resp-1' } },
    ]);
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { id } = await gateway.client.batches.create({
      input_file_id,
      endpoint: '/v1/responses',
      completion_window: '24h',
    });
    const batch = await reaches(id, 'completed');
    const [answer] = await read(batch.output_file_id);
    expect(answer.response.body).toMatchObject({
      object: 'response',
      status: 'completed',
      instructions: 'be brief',
      metadata: { a: 'b' },
      output: [{ content: [{ type: 'output_text', text: 'hi' }] }],
    });
    expect((await read(batch.error_file_id))[0].response.body.error.param).toBe('previous_response_id');
  });

  it('keep what was answered when they are cancelled', async () => {
    const release = held();
    const id = await create(lines(120));
    await eventually(async () => upstream.received.length === 100);
    expect((await gateway.client.batches.cancel(id)).status).toBe('cancelling');
    release();
    const batch = await reaches(id, 'cancelled');
    expect(batch.request_counts).toEqual({ total: 120, completed: 100, failed: 20 });
    expect((await read(batch.output_file_id)).length).toBe(100);
    const left = await read(batch.error_file_id);
    expect(left.every(({ response, error }) => response === null && error.code === 'batch_cancelled')).toBe(true);
    expect(upstream.received.length).toBe(100);
    expect((await gateway.fetch(`/v1/batches/${id}/cancel`, { method: 'POST' })).status).toBe(409);
    const logs = await gateway.json(`/logs/${left[0].id}`);
    expect(logs.state).toBe('cancelled');
  });

  it('end calls that do not finish soon after a cancellation', async () => {
    held();
    const id = await create(lines(3));
    await eventually(async () => upstream.received.length === 3);
    await act(id, 'cancel');
    const batch = await reaches(id, 'cancelled');
    expect(batch.request_counts).toEqual({ total: 3, completed: 0, failed: 3 });
    const [{ id: request }] = await read(batch.error_file_id);
    expect(await gateway.json(`/logs/${request}`)).toMatchObject({
      state: 'cancelled',
      attempts: [{ state: 'unknown' }],
    });
  });

  it('begin nothing while they are paused', async () => {
    const release = held();
    const id = await create(lines(130));
    await eventually(async () => upstream.received.length === 100);
    expect((await act(id, 'pause')).status).toBe(200);
    await job(id, 'paused');
    release();
    await eventually(async () => (await get(id)).request_counts.completed === 100);
    expect(upstream.received.length).toBe(100);
    expect((await get(id)).status).toBe('in_progress');
    await act(id, 'resume');
    expect((await reaches(id, 'completed')).request_counts.completed).toBe(130);
    const events = await (await gateway.fetch(`/v1/jobs/${id}/events`)).text();
    expect(events.match(/"state":"\w+"/g)).toEqual(
      ['queued', 'running', 'paused', 'running', 'completed'].map((state) => `"state":"${state}"`),
    );
  });

  it('stop at what they may cost, and go on once it is raised', async () => {
    // A line's most is 50 output tokens and its input; what it costs is a tenth of that.
    const id = await create(lines(40), { max_cost_usd: 0.0003 });
    const stopped = await job(id, 'budget_exceeded');
    expect(stopped.error).toMatchObject({ code: 'insufficient_quota', param: 'max_cost_usd' });
    expect(stopped.cost_usd).toBeLessThanOrEqual(0.0003);
    const { completed } = (await get(id)).request_counts;
    expect(completed).toBeGreaterThan(0);
    expect(completed).toBeLessThan(40);
    await act(id, 'resume', { max_cost_usd: 1 });
    expect((await reaches(id, 'completed')).request_counts).toEqual({ total: 40, completed: 40, failed: 0 });
    expect(upstream.received.length).toBe(40);
  });

  it('of a team without budget stop once and go on once it is raised', async () => {
    const { key, team } = await newKey();
    const budget = await gateway.json('/api/v1/budgets', {
      json: { scope: { type: 'team', id: team }, limit_usd: 0.001 },
    });
    const client = gateway.clientWith(key);
    const { id } = await client.batches.create({
      input_file_id: await upload(lines(40), client),
      endpoint: ENDPOINT,
      completion_window: '24h',
    });
    await job(id, 'budget_exceeded');
    await gateway.fetch(`/api/v1/budgets/${budget.id}`, { method: 'PATCH', json: { limit_usd: 10 } });
    await act(id, 'resume');
    expect((await reaches(id, 'completed')).request_counts.completed).toBe(40);
    const events = await (await gateway.fetch(`/v1/jobs/${id}/events`)).text();
    expect(events.match(/budget_exceeded/g)?.length).toBe(1);
    const { spent_usd, reserved_usd } = await gateway.json(`/api/v1/budgets/${budget.id}`);
    expect(reserved_usd).toBe(0);
    expect(spent_usd).toBeCloseTo((await gateway.json(`/v1/jobs/${id}`)).cost_usd, 9);
  });

  it('expire at their deadline, and a retry pays only for what is left', async () => {
    const never = new Promise<void>(() => {});
    upstream.reply = (received) =>
      Number(asked(received).slice(5)) <= 10 ? { body: openaiCompletion('in time') } : { until: never };
    const id = await create([...lines(13), '{'], { deadline: new Date(Date.now() + 3_000).toISOString() });
    const expired = await reaches(id, 'expired');
    expect(expired).toMatchObject({
      request_counts: { total: 14, completed: 10, failed: 4 },
      expired_at: expect.any(Number),
    });
    const left = await read(expired.error_file_id);
    expect(left.map(({ error }) => error.code)).toEqual([
      'batch_expired',
      'batch_expired',
      'batch_expired',
      'invalid_json_line',
    ]);

    upstream.reset();
    upstream.reply = () => ({ body: openaiCompletion('again') });
    const retried = (await (await act(id, 'retry')).json()) as Json;
    expect(retried.retry_of).toBe(id);
    const batch = await reaches(retried.id, 'completed');
    expect(batch.request_counts).toEqual({ total: 14, completed: 13, failed: 1 });
    expect(upstream.received.map(asked).sort()).toEqual(['line-11', 'line-12', 'line-13']);
    const answers = await read(batch.output_file_id);
    expect(answers.map(({ response }) => response.body.choices[0].message.content)).toEqual([
      ...Array(10).fill('in time'),
      ...Array(3).fill('again'),
    ]);
    expect((await act(retried.id, 'retry')).status).toBe(409);
    const rerun = (await (await act(retried.id, 'rerun')).json()) as Json;
    expect((await reaches(rerun.id, 'completed')).request_counts.completed).toBe(13);
    expect(upstream.received.length).toBe(16);
  });

  it('are listed page by page, to their own team', async () => {
    const [mine, other] = [await newKey(), await newKey()];
    const client = gateway.clientWith(mine.key);
    const ids: string[] = [];
    for (let i = 0; i < 3; i += 1) {
      const input_file_id = await upload(lines(1), client);
      ids.unshift((await client.batches.create({ input_file_id, endpoint: ENDPOINT, completion_window: '24h' })).id);
    }
    const first = await gateway.json('/v1/batches?limit=2', { key: mine.key });
    expect(first).toMatchObject({ object: 'list', has_more: true, first_id: ids[0], last_id: ids[1] });
    const all: string[] = [];
    for await (const batch of client.batches.list({ limit: 2 })) all.push(batch.id);
    expect(all).toEqual(ids);

    for (const path of [`/v1/batches/${ids[0]}`, `/v1/batches/${ids[0]}/cancel`]) {
      const init = path.endsWith('cancel') ? { method: 'POST' } : {};
      expect((await gateway.fetch(path, { key: other.key, ...init })).status).toBe(404);
    }
    expect((await gateway.json('/v1/batches', { key: other.key })).data).toEqual([]);
    const theirs = { input_file_id: await upload(lines(1), client), endpoint: ENDPOINT, completion_window: '24h' };
    expect((await gateway.fetch('/v1/batches', { key: other.key, json: theirs })).status).toBe(400);
    for (const id of ids) await reaches(id, 'completed');
  });

  it('with one Idempotency-Key are one batch', async () => {
    const json = { input_file_id: await upload(lines(2)), endpoint: ENDPOINT, completion_window: '24h' };
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const answers = await Promise.all(Array.from({ length: 8 }, () => gateway.fetch('/v1/batches', { json, headers })));
    const ids = await Promise.all(answers.map(async (answer) => ((await answer.json()) as Json).id));
    expect(new Set(ids).size).toBe(1);
    await reaches(ids[0], 'completed');
    expect(upstream.received.length).toBe(2);
  });

  it('wait for the limits of their team without holding it against a line', async () => {
    const { key } = await gateway.json('/config/virtual-keys', {
      json: { name: 'slow', rateLimit: { concurrent: 3 } },
    });
    let most = 0;
    let now = 0;
    upstream.reply = () => {
      now += 1;
      most = Math.max(most, now);
      const until = new Promise((resolve) => setTimeout(resolve, 20)).then(() => {
        now -= 1;
      });
      return { until, body: openaiCompletion('slow') };
    };
    const client = gateway.clientWith(key);
    const { id } = await client.batches.create({
      input_file_id: await upload(lines(20), client),
      endpoint: ENDPOINT,
      completion_window: '24h',
    });
    expect((await reaches(id, 'completed')).request_counts).toEqual({ total: 20, completed: 20, failed: 0 });
    expect(most).toBeLessThanOrEqual(3);
  });
});
