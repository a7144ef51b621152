import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openPostgres } from '../support/postgres.ts';
import { openaiCompletion, openaiStream } from '../support/shapes.ts';

describe.each<Parts>(['embedded', 'configured'])('requests that are one on %s parts', (parts) => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 1 }
retry: { retry_delay: 0.01 }
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
    ...overrides,
  });
  const ask = (json: object, headers: Record<string, string> = {}, init: { key?: string; signal?: AbortSignal } = {}) =>
    gateway.fetch('/v1/chat/completions', { json, headers, ...init });
  const once = () => ({ 'idempotency-key': crypto.randomUUID() });
  const newKey = async (team: string = crypto.randomUUID()): Promise<string> =>
    (await gateway.json('/config/virtual-keys', { json: { name: 'k', team } })).key;
  /** An upstream that answers when told to. */
  const held = () => {
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    upstream.reply = () => ({ until, body: openaiCompletion('late') });
    return release;
  };
  const called = (times: number) => eventually(async () => upstream.received.length >= times);

  describe('by their Idempotency-Key', () => {
    it('make one call and get one answer, a hundred at once', async () => {
      const [headers, body] = [once(), chat()];
      upstream.reply = () => ({ delayMs: 200, body: openaiCompletion('one') });
      const answers = await Promise.all(Array.from({ length: 100 }, () => ask(body, headers)));
      expect(answers.map(({ status }) => status)).toEqual(Array(100).fill(200));
      const texts = await Promise.all(answers.map((answer) => answer.text()));
      expect(new Set(texts).size).toBe(1);
      expect(upstream.received.length).toBe(1);
      expect(answers.filter((answer) => answer.headers.get('idempotent-replayed') === 'true').length).toBe(99);
    });

    it('are replayed when done, streams too', async () => {
      const [headers, body] = [once(), chat({ stream: true })];
      upstream.reply = () => ({ chunks: openaiStream(['a', 'b']) });
      const first = await (await ask(body, headers)).text();
      const second = await ask(body, headers);
      expect(second.headers.get('idempotent-replayed')).toBe('true');
      const contents = (text: string) =>
        [...text.matchAll(/^data: (\{.*)$/gm)]
          .map(([, json]) => JSON.parse(json ?? '').choices[0]?.delta?.content ?? '')
          .join('');
      expect(contents(await second.text())).toBe(contents(first));
      expect(contents(first)).toBe('ab');
      expect(upstream.received.length).toBe(1);
    });

    it('are refused with another body', async () => {
      const headers = once();
      await ask(chat(), headers);
      const other = await ask(chat(), headers);
      expect(other.status).toBe(409);
      expect(((await other.json()) as Json).error).toMatchObject({ code: 'conflict', param: 'Idempotency-Key' });
      expect(upstream.received.length).toBe(1);
    });

    it('replay the caller’s error and repeat what was not the caller’s fault', async () => {
      const [headers, body] = [once(), chat()];
      upstream.reply = () => ({ status: 400, body: { error: { message: 'bad' } } });
      expect((await ask(body, headers)).status).toBe(400);
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      const replayed = await ask(body, headers);
      expect([replayed.status, upstream.received.length]).toEqual([400, 1]);

      const other = { ...once(), 'x-request-id': crypto.randomUUID() };
      upstream.reply = () => ({ status: 500, body: {} });
      expect((await ask(body, other)).status).toBe(502);
      upstream.reply = () => ({ body: openaiCompletion('again') });
      const again = await ask(body, other);
      expect(again.status).toBe(200);
      expect(again.headers.get('idempotent-replayed')).toBeNull();
      expect(again.headers.get('x-request-id')).toBe(other['x-request-id']);
    });

    it('are one in whatever order their fields come', async () => {
      const headers = once();
      const content = crypto.randomUUID();
      await ask({ model: 'gpt-5-mini', messages: [{ role: 'user', content }], metadata: { a: '1', b: '2' } }, headers);
      const body = { metadata: { b: '2', a: '1' }, messages: [{ content, role: 'user' }], model: 'gpt-5-mini' };
      expect((await ask(body, headers)).headers.get('idempotent-replayed')).toBe('true');
      expect(upstream.received.length).toBe(1);
    });

    it('are of their project only', async () => {
      const [headers, body, team] = [once(), chat(), crypto.randomUUID()];
      const askOfProject = async () => {
        const json = { name: 'k', team, project: crypto.randomUUID() };
        const { key } = await gateway.json('/config/virtual-keys', { json });
        const replayed = (await ask(body, headers, { key })).headers.get('idempotent-replayed');
        const path = `/v1/chat/completions/${headers['idempotency-key']}`;
        return [replayed, (await gateway.fetch(path, { key })).status];
      };
      expect(await askOfProject()).toEqual([null, 200]);
      expect(await askOfProject()).toEqual([null, 200]);
      expect(upstream.received.length).toBe(2);
    });

    it('are of their team only', async () => {
      const [headers, body] = [once(), chat()];
      await ask(body, headers, { key: await newKey() });
      await ask(body, headers, { key: await newKey() });
      expect(upstream.received.length).toBe(2);
    });

    it('go on without their caller, who fetches the answer by the key', async () => {
      const [headers, body] = [once(), chat()];
      const release = held();
      const abort = new AbortController();
      const asked = ask(body, headers, { signal: abort.signal }).catch(() => 'gone');
      await called(1);
      abort.abort();
      expect(await asked).toBe('gone');
      const path = `/v1/chat/completions/${headers['idempotency-key']}`;
      expect((await gateway.fetch(path)).status).toBe(202);
      release();
      const answer = await eventually(async () => {
        const response = await gateway.fetch(path);
        return response.status === 200 && ((await response.json()) as Json);
      });
      expect(answer.choices[0].message.content).toBe('late');
      expect((await gateway.fetch(path, { key: await newKey() })).status).toBe(404);
    });

    it.each(['', 'a'.repeat(256), 'sp ace'])('%j is no key', async (key) => {
      expect((await ask(chat(), { 'idempotency-key': key })).status).toBe(400);
    });
  });

  // The embedded database has room for one connection, and the gateway has it.
  describe.runIf(parts === 'configured' && inject('postgres'))('by what they ask', () => {
    /** Waits until so many callers share the newest request, or the newest of a team. */
    const sharedBy = async (callers: number, team?: string) => {
      const db = openPostgres();
      const newest = db
        .selectFrom('llm_requests')
        .select('callers')
        .$if(team !== undefined, (query) => query.where('team', '=', team ?? ''))
        .orderBy('timestamp', 'desc')
        .limit(1);
      await expect.poll(async () => (await newest.executeTakeFirst())?.callers, { timeout: 20_000 }).toBe(callers);
      await db.destroy();
    };

    it('share one call while it is under way, if the answer is meant to be the same each time', async () => {
      const release = held();
      const body = chat({ temperature: 0 });
      const asked = Array.from({ length: 10 }, () => ask(body));
      await called(1);
      await sharedBy(10);
      release();
      const answers = await Promise.all(asked);
      expect(new Set(await Promise.all(answers.map((answer) => answer.text()))).size).toBe(1);
      expect(answers.filter((answer) => answer.headers.get('x-holdfast-deduplicated')).length).toBe(9);
      expect(upstream.received.length).toBe(1);
      upstream.reply = () => ({ body: openaiCompletion('new') });
      expect((await ask(body)).headers.get('x-holdfast-deduplicated')).toBeNull();
      expect(upstream.received.length).toBe(2);
    });

    it.each([
      ['sample', {}, {}, 2],
      ['sample and say they may share', {}, { 'x-holdfast-dedup': 'on' }, 1],
      ['have a seed', { seed: 1 }, {}, 1],
      ['are deterministic and say they must not share', { temperature: 0 }, { 'x-holdfast-dedup': 'off' }, 2],
      ['want several answers', { temperature: 0, n: 2 }, { 'x-holdfast-dedup': 'on' }, 2],
    ])('that %s', async (_name, overrides, headers: Record<string, string>, calls) => {
      const release = held();
      const body = chat(overrides);
      const first = ask(body, headers);
      await called(1);
      const second = ask(body, headers);
      await (calls === 2 ? called(2) : sharedBy(2));
      release();
      expect([(await first).status, (await second).status]).toEqual([200, 200]);
      expect(upstream.received.length).toBe(calls);
    });

    it('share one that was stored but never started, and start it', async () => {
      const body = chat({ temperature: 0 });
      const answered = await ask(body);
      const db = openPostgres();
      // What a gateway leaves behind that dies between its two steps.
      const orphan = `chatcmpl-${crypto.randomUUID()}`;
      const id = answered.headers.get('x-holdfast-run-id') ?? '';
      await eventually(async () => (await gateway.json(`/logs/${id}`)).status === 'success');
      await sql`
        INSERT INTO llm_requests (id, run_id, request_id, owner, markup_percent, surface, prompt, body_ref,
                                  model_requested, parameters, state, shared_key)
        SELECT ${orphan}, ${orphan}, ${orphan}, owner, markup_percent, surface, prompt, body_ref, model_requested,
               parameters, 'queued', shared_key
        FROM llm_requests WHERE id = ${id}`.execute(db);
      await db.destroy();
      const response = await ask(body);
      expect([response.status, response.headers.get('x-holdfast-run-id')]).toEqual([200, orphan]);
    });

    it('of other teams do not share', async () => {
      const release = held();
      const body = chat({ temperature: 0 });
      const asked = [ask(body, {}, { key: await newKey() }), ask(body, {}, { key: await newKey() })];
      await called(2);
      release();
      for (const answer of await Promise.all(asked)) expect(answer.status).toBe(200);
    });

    it('are cancelled when the last caller hangs up, and not before', async () => {
      const release = held();
      const team = crypto.randomUUID();
      const key = await newKey(team);
      const body = chat({ temperature: 0 });
      const first = new AbortController();
      const gone = ask(body, {}, { key, signal: first.signal }).catch(() => 'gone');
      await called(1);
      const second = ask(body, {}, { key });
      const [run] = (await gateway.json('/logs?limit=1', { key })).data;
      await sharedBy(2, team);
      first.abort();
      await gone;
      await sharedBy(1, team);
      release();
      const answer = await second;
      expect(answer.status).toBe(200);
      expect(answer.headers.get('x-holdfast-run-id')).toBe(run.id);

      held();
      const other = chat({ temperature: 0 });
      const [one, two] = [new AbortController(), new AbortController()];
      const both = [one, two].map(({ signal }) => ask(other, {}, { key, signal }).catch(() => 'gone'));
      await called(2);
      await sharedBy(2, team);
      one.abort();
      two.abort();
      await Promise.all(both);
      await eventually(async () => (await gateway.json('/logs?limit=1', { key })).data[0].state === 'cancelled');
    });

    it('refuse a wish that is none', async () => {
      expect((await ask(chat(), { 'x-holdfast-dedup': 'maybe' })).status).toBe(400);
    });
  });
});
