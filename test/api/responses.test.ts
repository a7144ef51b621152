import { LLMock } from '@copilotkit/aimock';
import OpenAI from 'openai';
import type { Response as ResponseObject, ResponseStreamEvent } from 'openai/resources/responses/responses';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eventually, type Json, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';

const weather = {
  type: 'function' as const,
  name: 'get_weather',
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
  strict: false,
};

/** Takes seconds to tell, also for the demo provider. */
const STORY = 'a long story [demo tokens=300 interval=20]';

/** An independent emulator of the providers' APIs answers; the official OpenAI client asks. */
describe.each<Parts>(['embedded', 'configured'])('responses on %s parts', (parts) => {
  const upstream = new LLMock({ port: 0, latency: 20, chunkSize: 6 });
  let gateway: TestGateway;
  let client: OpenAI;

  beforeAll(async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAIOSFODNN7EXAMPLE');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wJalrXUtnFEMI');
    upstream.onMessage('hello', { content: 'Hello from upstream.' });
    upstream.onMessage('a long story', { content: 'Once upon a time. '.repeat(40) });
    upstream.onToolResult('call_weather', { content: 'It is sunny.' });
    upstream.onMessage('weather', {
      toolCalls: [{ id: 'call_weather', name: 'get_weather', arguments: '{"city":"Paris"}' }],
    });
    await upstream.start();
    gateway = await startGateway(
      `
default_provider: openai
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }
  anthropic: { type: anthropic, base_url: "${upstream.url}", api_key: sk-ant-up, default_model: claude-haiku-4-5 }
  bedrock: { type: bedrock, region: us-east-1, endpoint: "${upstream.url}", model_id: "anthropic.claude-haiku-4-5-20251001-v1:0" }
  demo: { type: demo }
`,
      parts,
    );
    client = gateway.client;
  });
  afterAll(async () => {
    await gateway.stop();
    await upstream.stop();
    vi.unstubAllEnvs();
  });

  const ended = (id: string) =>
    eventually(async () => {
      const response = await client.responses.retrieve(id);
      return response.status !== 'queued' && response.status !== 'in_progress' && response;
    });
  const collect = async (events: AsyncIterable<ResponseStreamEvent>): Promise<ResponseStreamEvent[]> => {
    const all: ResponseStreamEvent[] = [];
    for await (const event of events) all.push(event);
    return all;
  };
  const replayed = (id: string, after?: number) =>
    client.responses
      .retrieve(id, { stream: true, ...(after !== undefined && { starting_after: after }) })
      .then(collect);
  const finalOf = (events: readonly ResponseStreamEvent[]): ResponseObject =>
    (events.at(-1) as { response: ResponseObject }).response;
  const statusOf = async (ask: () => PromiseLike<unknown>): Promise<number> => {
    try {
      await ask();
      return 200;
    } catch (error) {
      return error instanceof OpenAI.APIError ? Number(error.status) : 0;
    }
  };

  describe.each([
    ['openai', 'gpt-5-mini', 'Hello from upstream.'],
    ['anthropic', 'claude-haiku-4-5', 'Hello from upstream.'],
    ['bedrock', 'bedrock/claude-haiku-4-5', 'Hello from upstream.'],
    ['demo', 'demo/demo', /./],
  ])('of %s', (provider, model, text) => {
    it('are answered, and fetched later', async () => {
      const response = await client.responses.create({ model, input: 'hello', metadata: { ticket: '7' } });
      expect(response).toMatchObject({
        object: 'response',
        status: 'completed',
        error: null,
        metadata: { ticket: '7' },
        holdfast: { provider, attempts: 1 },
      });
      expect(response.output_text).toMatch(text);
      expect(response.usage?.total_tokens).toBe(
        (response.usage?.input_tokens ?? 0) + (response.usage?.output_tokens ?? 0),
      );
      expect(await client.responses.retrieve(response.id)).toEqual(response);
    });

    it('stream, and end with what is fetched later', async () => {
      const stream = client.responses.stream({ model, input: 'hello' });
      const events = await collect(stream);
      expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
      expect(events[0]?.type).toBe('response.created');
      expect(events.at(-1)?.type).toBe('response.completed');
      const final = await stream.finalResponse();
      expect(final.output_text).toMatch(text);
      const fetched = await client.responses.retrieve(final.id);
      expect(fetched).toEqual({ ...finalOf(events), output_text: fetched.output_text });
    });

    it('go on in the background and are polled', async () => {
      const created = await client.responses.create({ model, input: 'hello', background: true });
      expect(['queued', 'in_progress']).toContain(created.status);
      const response = await ended(created.id);
      expect(response).toMatchObject({ status: 'completed', background: true });
      expect(response.output_text).toMatch(text);
    });

    it('in the background stream, and are resumed after any event', async () => {
      const stream = await client.responses.create({ model, input: 'hello', background: true, stream: true });
      const events = await collect(stream);
      const types = events.map(({ type }) => type);
      expect(types.slice(0, 3)).toEqual(['response.created', 'response.queued', 'response.in_progress']);
      expect(types.filter((type) => type === 'response.output_text.delta').length).toBeGreaterThan(1);
      expect(types.at(-1)).toBe('response.completed');
      const { id } = finalOf(events);
      expect(await replayed(id)).toEqual(events);
      for (const after of [0, 4, events.length - 2]) expect(await replayed(id, after)).toEqual(events.slice(after + 1));
      expect(await replayed(id, 99_999)).toEqual(events.slice(-1));
      const resumed = client.responses.stream({ response_id: id, starting_after: 3 });
      expect((await collect(resumed)).length).toBeGreaterThan(0);
      expect(await client.responses.retrieve(id)).toMatchObject({
        status: 'completed',
        output: finalOf(events).output,
      });
    });
  });

  describe.each([
    ['openai', 'gpt-5-mini'],
    ['anthropic', 'claude-haiku-4-5'],
    ['bedrock', 'bedrock/claude-haiku-4-5'],
    ['demo', 'demo/demo'],
  ])('of %s', (_provider, model) => {
    it('are cancelled while they run, and show so ever after', async () => {
      const stream = await client.responses.create({ model, input: STORY, background: true, stream: true });
      let id = '';
      const seen: ResponseStreamEvent[] = [];
      for await (const event of stream) {
        seen.push(event);
        if (event.type === 'response.created') id = event.response.id;
        if (event.type === 'response.output_text.delta' && seen.length < 8) {
          expect((await client.responses.cancel(id)).status).toBe('cancelled');
        }
      }
      expect(seen.at(-1)).toMatchObject({ type: 'response.failed', response: { status: 'cancelled' } });
      expect((await client.responses.retrieve(id)).status).toBe('cancelled');
      expect((await client.responses.cancel(id)).status).toBe('cancelled');
      expect(await replayed(id)).toEqual(seen);
      expect((await gateway.json(`/logs/${id}`)).attempts).toMatchObject([{ state: 'cancelled' }]);
    });
  });

  describe.each([
    ['openai', 'gpt-5-mini'],
    ['anthropic', 'claude-haiku-4-5'],
    ['bedrock', 'bedrock/claude-haiku-4-5'],
  ])('of %s', (_provider, model) => {
    it('call functions and take their results, by the conversation that is stored', async () => {
      const first = await client.responses.create({ model, input: 'weather in Paris?', tools: [weather] });
      const call = first.output.find(({ type }) => type === 'function_call');
      expect(call).toMatchObject({ name: 'get_weather', call_id: 'call_weather' });
      const second = await client.responses.create({
        model,
        previous_response_id: first.id,
        input: [{ type: 'function_call_output', call_id: 'call_weather', output: 'sunny' }],
        tools: [weather],
      });
      expect(second.output_text).toBe('It is sunny.');
      const third = await client.responses.create({ model, previous_response_id: second.id, input: 'hello' });
      expect(third.output_text).toBe('Hello from upstream.');
      const asked = JSON.stringify(upstream.getRequests().at(-1)?.body);
      for (const part of ['weather in Paris?', 'sunny', 'It is sunny.']) expect(asked).toContain(part);
    });
  });

  it('list what they were asked', async () => {
    const { id } = await client.responses.create({
      model: 'gpt-5-mini',
      input: [
        { role: 'user', content: 'hello' },
        { role: 'assistant', content: 'Yes?' },
        { role: 'user', content: 'hello again' },
      ],
    });
    const all = await client.responses.inputItems.list(id, { order: 'asc' });
    expect(all.data.map((item) => item.type)).toEqual(['message', 'message', 'message']);
    const pages: string[] = [];
    for await (const item of client.responses.inputItems.list(id, { limit: 1, order: 'asc' }))
      pages.push(item.id ?? '');
    expect(pages).toEqual(all.data.map((item) => item.id));
  });

  it('are gone once they are deleted', async () => {
    const { id } = await client.responses.create({ model: 'gpt-5-mini', input: 'hello', background: true });
    await ended(id);
    await client.responses.delete(id);
    for (const ask of [
      () => client.responses.retrieve(id),
      () => client.responses.delete(id),
      () => client.responses.cancel(id),
      () => client.responses.inputItems.list(id),
      () => client.responses.create({ model: 'gpt-5-mini', input: 'x', previous_response_id: id }),
    ]) {
      expect(await statusOf(ask)).toBe(404);
    }
  });

  it('are not stored if that is not wanted', async () => {
    const { id } = await client.responses.create({ model: 'gpt-5-mini', input: 'hello', store: false });
    expect(await statusOf(() => client.responses.retrieve(id))).toBe(404);
  });

  it('of another team are not there', async () => {
    const newKey = async () => {
      const json = { name: 'k', team: crypto.randomUUID() };
      return gateway.clientWith((await gateway.json('/config/virtual-keys', { json })).key);
    };
    const [mine, other] = [await newKey(), await newKey()];
    const { id } = await mine.responses.create({ model: 'gpt-5-mini', input: 'hello', background: true });
    await ended(id);
    for (const ask of [
      () => other.responses.retrieve(id),
      () => other.responses.retrieve(id, { stream: true }),
      () => other.responses.cancel(id),
      () => other.responses.delete(id),
      () => other.responses.create({ model: 'gpt-5-mini', input: 'x', previous_response_id: id }),
    ]) {
      expect(await statusOf(ask)).toBe(404);
    }
    expect((await mine.responses.retrieve(id)).status).toBe('completed');
  });

  it('answer bad input with what is wrong', async () => {
    const problem = async (json: object) => {
      const response = await gateway.fetch('/v1/responses', { json });
      return [response.status, ((await response.json()) as Json).error?.param];
    };
    const model = 'gpt-5-mini';
    expect(await problem({ model })).toEqual([400, 'input']);
    expect(await problem({ model, input: 'x', tools: [{ type: 'web_search' }] })).toEqual([400, 'tools[0].type']);
    expect(await problem({ model, input: 'x', conversation: 'c' })).toEqual([400, 'conversation']);
    expect(await problem({ model, input: 'x', surprise: 1 })).toEqual([400, 'surprise']);
    expect(await problem({ model, input: 'x', background: true, store: false })).toEqual([400, 'background']);
    expect(await problem({ model: 'nothing', input: 'x' })).toEqual([404, 'model']);
    const { id } = await client.responses.create({ model, input: 'hello' });
    expect(await statusOf(() => client.responses.retrieve(id, { stream: true }))).toBe(400);
    expect(await statusOf(() => client.responses.cancel(id))).toBe(400);
    const done = await client.responses.create({ model, input: 'hello', background: true });
    await ended(done.id);
    expect(await statusOf(() => client.responses.cancel(done.id))).toBe(409);
  });

  it('are jobs as well', async () => {
    const json = { endpoint: '/v1/responses', body: { model: 'gpt-5-mini', input: 'hello' }, priority: 1 };
    const { id } = await gateway.json('/v1/jobs', { json });
    const job = await eventually(async () => {
      const found = await gateway.json(`/v1/jobs/${id}`);
      return found.status === 'completed' && found;
    });
    expect(job.result).toMatchObject({ object: 'response', id, status: 'completed' });
    expect((await client.responses.retrieve(id)).output_text).toBe('Hello from upstream.');
    await client.responses.delete(id);
    expect((await gateway.json(`/v1/jobs/${id}`)).result).toBeUndefined();
  });
});
