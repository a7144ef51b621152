import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion, openaiStream } from '../support/shapes.ts';

describe.each<Parts>(['embedded', 'configured'])('jobs on %s parts', (parts) => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 2 }
retry: { retry_delay: 0.01 }
webhooks: { allowed_private_hosts: [127.0.0.0/8] }
`,
      parts,
    );
  });
  afterAll(async () => {
    await gateway.stop();
    await upstream.stop();
  });
  beforeEach(() => {
    upstream.reset();
    upstream.reply = () => ({ body: openaiCompletion('hi') });
  });

  const chat = (overrides: object = {}) => ({
    model: 'gpt-5-mini',
    messages: [{ role: 'user', content: crypto.randomUUID() }],
    max_tokens: 50,
    ...overrides,
  });
  const submit = (body: object, job: object = {}, init: { key?: string; headers?: Record<string, string> } = {}) =>
    gateway.fetch('/v1/jobs', { json: { endpoint: '/v1/chat/completions', body, ...job }, ...init });
  const submitted = async (body: object, job: object = {}, init = {}) => {
    const response = await submit(body, job, init);
    expect(response.status).toBe(202);
    return (await response.json()) as Json;
  };
  const post = (id: string, action: string, json: object = {}) => gateway.fetch(`/v1/jobs/${id}/${action}`, { json });
  const get = (id: string): Promise<Json> => gateway.json(`/v1/jobs/${id}`);
  const reaches = (id: string, status: string) =>
    eventually(async () => {
      const job = await get(id);
      return job.status === status && job;
    });
  const newKey = async (overrides: object = {}) =>
    (await gateway.json('/config/virtual-keys', {
      json: { name: 'k', team: crypto.randomUUID(), ...overrides },
    })) as Json;

  /** An upstream that answers when told to. */
  const held = () => {
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    upstream.reply = () => ({ until, body: openaiCompletion('late') });
    return release;
  };

  it('are answered in the background, with result and cost', async () => {
    const release = held();
    const job = await submitted(chat(), { metadata: { ticket: '7' } });
    expect(job).toMatchObject({
      object: 'job',
      endpoint: '/v1/chat/completions',
      metadata: { ticket: '7' },
      priority: 3,
    });
    expect(['queued', 'running']).toContain(job.status);
    await reaches(job.id, 'running');
    release();
    const done = await reaches(job.id, 'completed');
    expect(done.result.choices[0].message.content).toBe('late');
    expect(done.cost_usd).toBe(done.result.metadata.cost_usd);
    expect(done.completed_at).toBeGreaterThanOrEqual(done.created_at);
    expect((await gateway.json(`/logs/${job.id}`)).status).toBe('success');
  });

  it('show what they do as events, which can be resumed after any of them', async () => {
    upstream.reply = () => ({ chunks: openaiStream(['a', 'b', 'c']), intervalMs: 60 });
    const { id } = await submitted(chat({ stream: true }));
    const read = async (headers: Record<string, string> = {}) =>
      (await gateway.fetch(`/v1/jobs/${id}/events`, { headers })).text();
    const live = await read();
    const events = live.split('\n\n').filter(Boolean);
    expect(events[0]).toContain('"queued"');
    expect(events[1]).toContain('"running"');
    expect(events.at(-1)).toContain('"completed"');
    expect(live.match(/"content":"(.)"/g)?.join('')).toBe('"content":"a""content":"b""content":"c"');
    expect(await read()).toBe(live);
    for (let seq = 0; seq < events.length - 1; seq += 1) {
      expect(await read({ 'last-event-id': String(seq) })).toBe(`${events.slice(seq + 1).join('\n\n')}\n\n`);
    }
    expect(await read({ 'last-event-id': '9999' })).toBe(`${events.at(-1)}\n\n`);
  });

  it('end as failed under the provider’s error, and are retried and run again as new linked jobs', async () => {
    upstream.reply = () => ({ status: 400, body: { error: { message: 'bad' } } });
    const { id } = await submitted(chat());
    const failed = await reaches(id, 'failed');
    expect(failed.error.code).toBe('invalid_request');
    upstream.reply = () => ({ body: openaiCompletion('now') });
    const retried = (await (await post(id, 'retry')).json()) as Json;
    expect(retried).toMatchObject({ retry_of: id, rerun_of: null });
    expect((await reaches(retried.id, 'completed')).result.choices[0].message.content).toBe('now');
    expect((await post(retried.id, 'retry')).status).toBe(409);
    const rerun = (await (await post(retried.id, 'rerun')).json()) as Json;
    expect(rerun).toMatchObject({ retry_of: null, rerun_of: retried.id });
    await reaches(rerun.id, 'completed');
    expect(upstream.received.length).toBe(3);
  });

  it('are retried once for one Idempotency-Key, without a body', async () => {
    upstream.reply = () => ({ status: 400, body: { error: { message: 'bad' } } });
    const { id } = await submitted(chat());
    await reaches(id, 'failed');
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const retry = () => gateway.fetch(`/v1/jobs/${id}/retry`, { method: 'POST', headers });
    const [first, second] = [await retry(), await retry()];
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(((await second.json()) as Json).id).toBe(((await first.json()) as Json).id);
  });

  it('are run again on the terms and at the cost of who asks for it', async () => {
    const team = crypto.randomUUID();
    const mine = await newKey({ team });
    const { id } = await submitted(chat(), {}, { key: mine.key });
    await reaches(id, 'completed');
    const rerun = async (key?: string) =>
      gateway.fetch(`/v1/jobs/${id}/rerun`, { method: 'POST', ...(key && { key }) });
    const narrow = await newKey({ team, allowedModels: ['gpt-5'] });
    expect((await rerun(narrow.key)).status).toBe(403);
    const other = await newKey({ team });
    const paidBy = async (response: Response) => {
      const { id: run } = (await response.json()) as Json;
      await reaches(run, 'completed');
      return (await gateway.json(`/logs/${run}`)).virtual_key_id;
    };
    expect(await paidBy(await rerun(other.key))).toBe(other.id);
    expect(await paidBy(await rerun())).toBe(mine.id);
  });

  it('that wait for their budget leave their slot to others', async () => {
    const { key, id: keyId } = await newKey({ costCap: 0, rateLimit: { concurrent: 1 } });
    const { id } = await submitted(chat(), {}, { key });
    await reaches(id, 'budget_exceeded');
    await gateway.fetch(`/config/virtual-keys/${keyId}`, { method: 'PATCH', json: { costCap: 10 } });
    const other = await gateway.fetch('/v1/chat/completions', { json: chat(), key });
    expect(other.status).toBe(200);
    const release = held();
    await post(id, 'resume');
    await reaches(id, 'running');
    expect((await gateway.fetch('/v1/chat/completions', { json: chat(), key })).status).toBe(429);
    release();
    await reaches(id, 'completed');
  });

  it('that are paused while they wait for a limit begin nothing', async () => {
    const { key } = await newKey({ rateLimit: { concurrent: 1 } });
    const release = held();
    const first = await submitted(chat(), {}, { key });
    await reaches(first.id, 'running');
    const second = await submitted(chat(), {}, { key });
    await eventually(async () => (await post(second.id, 'pause')).status === 200);
    release();
    await reaches(first.id, 'completed');
    await reaches(second.id, 'paused');
    expect(upstream.received.length).toBe(1);
    await post(second.id, 'resume');
    await reaches(second.id, 'completed');
  });

  it.each(['9999-12-31', '2500-01-01'])('with a deadline as far as %s are refused', async (deadline) => {
    const response = await submit(chat(), { deadline });
    expect([response.status, ((await response.json()) as Json).error?.param]).toEqual([400, 'deadline']);
  });

  it('are cancelled while they run, once', async () => {
    held();
    const { id } = await submitted(chat());
    await eventually(async () => upstream.received.length === 1);
    const response = await post(id, 'cancel');
    expect(response.status).toBe(200);
    expect(((await response.json()) as Json).status).toBe('cancelled');
    expect((await post(id, 'cancel')).status).toBe(409);
    expect((await post(id, 'pause')).status).toBe(409);
    const entry = await gateway.json(`/logs/${id}`);
    expect(entry).toMatchObject({ state: 'cancelled', attempts: [{ state: 'unknown' }] });
  });

  it('that exceed their cost wait for it to be raised', async () => {
    const { id } = await submitted(chat({ max_tokens: 5000 }), { max_cost_usd: 0.000001 });
    const stopped = await reaches(id, 'budget_exceeded');
    expect(stopped.error.code).toBe('insufficient_quota');
    expect(upstream.received.length).toBe(0);
    expect((await post(id, 'resume', { max_cost_usd: 1 })).status).toBe(200);
    const done = await reaches(id, 'completed');
    expect(done).toMatchObject({ max_cost_usd: 1, error: null });
  });

  it('of a key without budget wait for it to be raised', async () => {
    const { key, id: keyId } = await newKey({ costCap: 0 });
    const { id } = await submitted(chat(), {}, { key });
    await reaches(id, 'budget_exceeded');
    await gateway.fetch(`/config/virtual-keys/${keyId}`, { method: 'PATCH', json: { costCap: 10 } });
    await post(id, 'resume');
    await reaches(id, 'completed');
  });

  it('get an output limit that their cost allows', async () => {
    const { id } = await submitted(chat({ max_tokens: undefined }), { max_cost_usd: 0.01 });
    await reaches(id, 'completed');
    const { max_tokens, max_completion_tokens: limit = max_tokens } = upstream.last.body;
    expect(limit).toBeGreaterThan(1000);
    expect(limit * 2e-6).toBeLessThanOrEqual(0.01);
  });

  it('that are paused begin nothing until they are resumed', async () => {
    const { id } = await submitted(chat({ max_tokens: 5000 }), { max_cost_usd: 0.000001 });
    await reaches(id, 'budget_exceeded');
    expect((await post(id, 'pause')).status).toBe(200);
    expect(((await (await post(id, 'resume', { max_cost_usd: 1 })).json()) as Json).id).toBe(id);
    await reaches(id, 'completed');
  });

  it('end at their deadline', async () => {
    held();
    const deadline = new Date(Date.now() + 1_500).toISOString();
    const { id } = await submitted(chat(), { deadline });
    expect((await reaches(id, 'failed')).error.code).toBe('deadline_exceeded');
  });

  it('are listed by state, team and model, page by page', async () => {
    const { key, team } = await newKey();
    const ids = [];
    for (let n = 0; n < 3; n += 1) ids.push((await submitted(chat(), {}, { key })).id);
    for (const id of ids) await reaches(id, 'completed');
    const list = (query: string) => gateway.json(`/v1/jobs?${query}`, { key });
    const all = await list('limit=10');
    expect(all.data.map(({ id }: Json) => id)).toEqual([...ids].reverse());
    expect(all.next_cursor).toBeNull();
    const first = await list('limit=2');
    const second = await list(`limit=2&cursor=${first.next_cursor}`);
    expect([...first.data, ...second.data].map(({ id }: Json) => id)).toEqual([...ids].reverse());
    expect((await list('state=failed')).data).toEqual([]);
    expect((await list(`state=completed&model=gpt-5-mini&team=${team}`)).data.length).toBe(3);
    expect((await list(`since=${new Date(Date.now() + 60_000).toISOString()}`)).data).toEqual([]);
  });

  it('of another team are not there', async () => {
    const [mine, other] = [await newKey(), await newKey()];
    const { id } = await submitted(chat(), {}, { key: mine.key });
    for (const path of [`/v1/jobs/${id}`, `/v1/jobs/${id}/events`]) {
      expect((await gateway.fetch(path, { key: other.key })).status).toBe(404);
    }
    for (const action of ['cancel', 'pause', 'resume', 'retry', 'rerun']) {
      const path = `/v1/jobs/${id}/${action}`;
      expect((await gateway.fetch(path, { key: other.key, json: {} })).status).toBe(404);
    }
    expect((await gateway.json('/v1/jobs', { key: other.key })).data).toEqual([]);
    await reaches(id, 'completed');
  });

  it('tell their webhook what becomes of them, signed', async () => {
    const receiver = await new FixtureServer().start();
    receiver.reply = () => ({ status: 204 });
    const { id, webhook } = await submitted(chat({ max_tokens: 5000 }), {
      max_cost_usd: 0.000001,
      metadata: { ticket: '7' },
      webhook: { url: `${receiver.url}/hook?token=t` },
    });
    expect(webhook.secret).toMatch(/^whsec_/);
    expect((await get(id)).webhook).toBeUndefined();
    await eventually(async () => receiver.received.length === 1);
    await post(id, 'resume', { max_cost_usd: 1 });
    await eventually(async () => receiver.received.length === 2);
    const events = receiver.received.map(
      ({ body, headers }) =>
        new Webhook(webhook.secret).verify(JSON.stringify(body), headers as Record<string, string>) as Json,
    );
    expect(events).toMatchObject([
      {
        type: 'run.budget_exceeded',
        data: { id, status: 'budget_exceeded', error: { code: 'policy_budget_exceeded' } },
      },
      { type: 'run.completed', data: { id, status: 'completed', error: null, metadata: { ticket: '7' } } },
    ]);
    const deliveries = await eventually(async () => {
      const { data } = await gateway.json(`/v1/jobs/${id}/webhooks`);
      return data.every(({ state }: Json) => state === 'delivered') && data;
    });
    expect(deliveries.map(({ type }: Json) => type)).toEqual(['run.completed', 'run.budget_exceeded']);
    await receiver.stop();
  });

  it('cannot have a webhook inside the network', async () => {
    for (const url of ['http://10.0.0.1/', 'http://169.254.169.254/latest', 'ftp://example.com']) {
      const response = await submit(chat(), { webhook: { url } });
      expect([response.status, ((await response.json()) as Json).error.param]).toEqual([400, 'webhook.url']);
    }
  });

  it('are made by /llm/invoke, which also waits for an answer', async () => {
    const ask = (json: object) => gateway.fetch('/llm/invoke', { json });
    const answered = await ask({ model: 'gpt-5-mini', prompt: 'hi', temperature: 1 });
    expect(answered.status).toBe(200);
    expect(((await answered.json()) as Json).choices[0].message.content).toBe('hi');
    expect(upstream.last.body).toMatchObject({ messages: [{ role: 'user', content: 'hi' }], temperature: 1 });
    const made = await ask({ model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }], background: true });
    expect(made.status).toBe(202);
    await reaches(((await made.json()) as Json).id, 'completed');
    for (const json of [{ model: 'gpt-5-mini' }, { prompt: 'a', messages: [{ role: 'user', content: 'hi' }] }]) {
      expect((await ask(json)).status).toBe(400);
    }
  });

  it('are refused with the field at fault when they are not valid', async () => {
    const param = async (json: object) => {
      const response = await gateway.fetch('/v1/jobs', { json });
      expect(response.status).toBe(400);
      return ((await response.json()) as Json).error.param;
    };
    const endpoint = '/v1/chat/completions';
    expect(await param({ endpoint, body: { model: 'gpt-5-mini' } })).toBe('body.messages');
    expect(await param({ endpoint, body: chat({ messages: [{ role: 'nobody' }] }) })).toBe('body.messages[0].role');
    expect(await param({ endpoint: '/v1/nothing', body: {} })).toBe('endpoint');
    expect(await param({ endpoint, body: chat(), priority: 9 })).toBe('priority');
    expect(await param({ endpoint, body: chat(), deadline: '2001-01-01' })).toBe('deadline');
    expect(await param({ endpoint, body: chat(), surprise: 1 })).toBe('surprise');
  });

  it('with one Idempotency-Key are one job', async () => {
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const body = chat();
    const answers = await Promise.all(Array.from({ length: 20 }, () => submit(body, {}, { headers })));
    const ids = await Promise.all(answers.map(async (answer) => ((await answer.json()) as Json).id));
    expect(new Set(ids).size).toBe(1);
    expect(answers.filter((answer) => answer.headers.get('idempotent-replayed') === 'true').length).toBe(19);
    await reaches(ids[0], 'completed');
    expect(upstream.received.length).toBe(1);
    expect((await submit(chat(), {}, { headers })).status).toBe(409);
  });

  it('that have ended are found by their Idempotency-Key after their deadline', async () => {
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const [body, deadline] = [chat(), new Date(Date.now() + 2_000).toISOString()];
    const { id } = await submitted(body, { deadline }, { headers });
    await reaches(id, 'completed');
    await eventually(async () => Date.now() > Date.parse(deadline));
    const again = await submit(body, { deadline }, { headers });
    expect([again.status, ((await again.json()) as Json).id]).toEqual([202, id]);
  });
});
