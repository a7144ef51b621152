import { LLMock } from '@copilotkit/aimock';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MASTER_KEY, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';

const weather = {
  type: 'function' as const,
  function: { name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
};

/** An independent emulator of the providers' APIs answers; the official OpenAI client asks. */
describe.each<[Parts]>([['embedded'], ['configured']])('the official OpenAI client on %s parts', (parts) => {
  const upstream = new LLMock({ port: 0 });
  let gateway: TestGateway;
  let client: OpenAI;

  beforeAll(async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAIOSFODNN7EXAMPLE');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wJalrXUtnFEMI');
    upstream.onMessage('hello', { content: 'Hello from upstream.' });
    upstream.onToolResult('call_weather', { content: 'It is sunny.' });
    upstream.onMessage('weather', {
      toolCalls: [{ id: 'call_weather', name: 'get_weather', arguments: '{"city":"Paris"}' }],
    });
    upstream.onMessage('look', { content: 'A cat.' });
    upstream.onMessage('json', { content: '{"answer":42}' });
    await upstream.start();
    gateway = await startGateway(
      `
default_provider: openai
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }
  anthropic: { type: anthropic, base_url: "${upstream.url}", api_key: sk-ant-up, default_model: claude-haiku-4-5 }
  bedrock: { type: bedrock, region: us-east-1, endpoint: "${upstream.url}", model_id: "anthropic.claude-haiku-4-5-20251001-v1:0" }
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

  const models = [
    ['openai', 'gpt-5-mini'],
    ['anthropic', 'claude-haiku-4-5'],
    ['bedrock', 'bedrock/claude-haiku-4-5'],
  ] as const;

  describe.each(models)('with a model of %s', (provider, model) => {
    it('gets an answer with usage and the gateway’s metadata', async () => {
      const { data, response } = await client.chat.completions
        .create({ model, messages: [{ role: 'user', content: 'hello' }] })
        .withResponse();
      expect(data).toMatchObject({
        object: 'chat.completion',
        choices: [{ index: 0, message: { role: 'assistant', content: 'Hello from upstream.' }, finish_reason: 'stop' }],
        metadata: { provider, attempts: 1, latency_ms: expect.any(Number), cost_usd: expect.any(Number) },
      });
      expect(data.usage?.total_tokens).toBe((data.usage?.prompt_tokens ?? 0) + (data.usage?.completion_tokens ?? 0));
      expect(data.id).toMatch(/^chatcmpl-[0-9a-f]{32}$/);
      expect(response.headers.get('x-holdfast-run-id')).toBe(data.id);
      expect(response.headers.get('x-holdfast-attempts')).toBe('1');
      expect(response.headers.get('x-holdfast-cost-usd')).toMatch(/^\d+(\.\d+)?$/);
    });

    it('gets a stream of the same answer, with usage when it asks for it', async () => {
      const stream = await client.chat.completions.create({
        model,
        messages: [{ role: 'user', content: 'hello' }],
        stream: true,
        stream_options: { include_usage: true },
      });
      let text = '';
      const finishes: string[] = [];
      let last: OpenAI.ChatCompletionChunk | undefined;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? '';
        if (chunk.choices[0]?.finish_reason) finishes.push(chunk.choices[0].finish_reason);
        last = chunk;
      }
      expect(text).toBe('Hello from upstream.');
      expect(finishes).toEqual(['stop']);
      expect(last).toMatchObject({
        choices: [],
        usage: { completion_tokens: expect.any(Number) },
        metadata: { provider, attempts: 1 },
      });
    });

    it('has its tools called and their results taken back', async () => {
      const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'weather in Paris?' }];
      const first = await client.chat.completions.create({ model, messages, tools: [weather] });
      const message = first.choices[0]?.message as OpenAI.ChatCompletionMessage;
      expect(first.choices[0]?.finish_reason).toBe('tool_calls');
      const [call] = message.tool_calls ?? [];
      expect(call).toMatchObject({ type: 'function', function: { name: 'get_weather' } });
      expect(JSON.parse(call?.type === 'function' ? call.function.arguments : '')).toEqual({ city: 'Paris' });
      messages.push(message, { role: 'tool', tool_call_id: call?.id ?? '', content: 'sunny' });
      const second = await client.chat.completions.create({ model, messages, tools: [weather] });
      expect(second.choices[0]?.message.content).toBe('It is sunny.');
    });

    it('gets streamed tool calls that the SDK puts together', async () => {
      const stream = client.chat.completions.stream({
        model,
        messages: [{ role: 'user', content: 'weather in Paris?' }],
        tools: [weather],
      });
      const completion = await stream.finalChatCompletion();
      const [call] = completion.choices[0]?.message.tool_calls ?? [];
      expect(call?.function.name).toBe('get_weather');
      expect(JSON.parse(call?.function.arguments ?? '')).toEqual({ city: 'Paris' });
    });

    it('sends images', async () => {
      const url =
        'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
      const completion = await client.chat.completions.create({
        model,
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'look' },
              { type: 'image_url', image_url: { url } },
            ],
          },
        ],
      });
      expect(completion.choices[0]?.message.content).toBe('A cat.');
    });
  });

  it('gets JSON by schema', async () => {
    const schema = {
      type: 'object',
      properties: { answer: { type: 'number' } },
      required: ['answer'],
      additionalProperties: false,
    };
    const completion = await client.chat.completions.parse({
      model: 'gpt-5-mini',
      messages: [{ role: 'user', content: 'json please' }],
      response_format: { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } },
    });
    expect(JSON.parse(completion.choices[0]?.message.content ?? '')).toEqual({ answer: 42 });
  });

  it('lists models', async () => {
    const ids: string[] = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(expect.arrayContaining(['gpt-5-mini', 'claude-haiku-4-5', 'nova-pro']));
  });

  it('is told about a wrong key and a wrong model by the SDK’s own errors', async () => {
    const stranger = gateway.clientWith('sk-wrong');
    const messages = [{ role: 'user' as const, content: 'hello' }];
    await expect(stranger.chat.completions.create({ model: 'gpt-5-mini', messages })).rejects.toBeInstanceOf(
      OpenAI.AuthenticationError,
    );
    const unknown = await client.chat.completions.create({ model: 'gpt-0', messages }).catch((error: unknown) => error);
    expect(unknown).toBeInstanceOf(OpenAI.NotFoundError);
    expect(unknown).toMatchObject({ code: 'model_not_found', param: 'model' });
  });

  it('fetches an answer again by its id', async () => {
    const made = await client.chat.completions.create({
      model: 'gpt-5-mini',
      messages: [{ role: 'user', content: 'hello' }],
    });
    const again = await client.chat.completions.retrieve(made.id);
    expect(again).toEqual(made);
  });

  it('knows the upstream’s key only here', async () => {
    await client.chat.completions.create({ model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hello' }] });
    const headers = JSON.stringify(upstream.getLastRequest()?.headers ?? {});
    expect(headers).not.toContain(MASTER_KEY);
  });
});
