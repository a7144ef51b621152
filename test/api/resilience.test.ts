import { LLMock } from '@copilotkit/aimock';
import { Client, Connection } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import OpenAI, { type APIError } from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { FixtureServer, type Received, type Reply } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { anthropicError, openaiCompletion, openaiDeltas, openaiStream } from '../support/shapes.ts';

const OPENAI = /\/v1\/chat\/completions$/;
const ANTHROPIC = /\/v1\/messages$/;
const overloaded = anthropicError(529, 'overloaded_error', 'Overloaded');

const providers = new FixtureServer();
const bedrock = new LLMock({ port: 0 });
let gateway: TestGateway;
let connection: Connection;
let temporalClient: Client;

/** What each provider answers; a list answers in turn, its last entry for ever. */
function answer(replies: { openai?: Reply | Reply[]; anthropic?: Reply | Reply[] }): void {
  const counts = { openai: 0, anthropic: 0 };
  providers.reset();
  providers.reply = ({ path }: Received) => {
    const name = ANTHROPIC.test(path) ? 'anthropic' : 'openai';
    const list = [replies[name] ?? { status: 500 }].flat();
    return list[Math.min(counts[name]++, list.length - 1)] as Reply;
  };
}
const ask = (model: string, extra: Record<string, unknown> = {}, options: OpenAI.RequestOptions = {}) =>
  gateway.client.chat.completions
    .create(
      {
        model,
        messages: [{ role: 'user', content: 'hello' }],
        ...extra,
      } as OpenAI.ChatCompletionCreateParamsNonStreaming,
      options,
    )
    .withResponse();
const entry = (id: string) =>
  eventually(async () => {
    const row = await gateway.json(`/logs/${id}`);
    return row.completed_at ? row : undefined;
  });
/** The text of an answer, once it is there. */
const fetched = (requestId: string) =>
  eventually(async () => {
    const response = await gateway.fetch(`/v1/chat/completions/${requestId}`);
    if (response.status !== 200) return undefined;
    const completion = (await response.json()) as OpenAI.ChatCompletion;
    return completion.choices[0]?.message.content ?? undefined;
  });
async function historyOf(id: string) {
  const { events } = await temporalClient.workflow.getHandle(id).fetchHistory();
  return events ?? [];
}

beforeAll(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAIOSFODNN7EXAMPLE');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wJalrXUtnFEMI');
  await providers.start();
  bedrock.onMessage('hello', { content: 'Hello from Bedrock.' });
  await bedrock.start();
  gateway = await startGateway(
    `
default_provider: anthropic
providers:
  anthropic: { type: anthropic, base_url: "${providers.url}", api_key: sk-ant, default_model: claude-haiku-4-5, timeout: 2 }
  openai: { type: openai, base_url: "${providers.url}/v1", api_key: sk-up, default_model: gpt-5-mini, timeout: 2 }
  bedrock: { type: bedrock, region: us-east-1, endpoint: "${bedrock.url}", model_id: "anthropic.claude-haiku-4-5-20251001-v1:0" }
fallback: { fallback_order: [anthropic, bedrock], max_fallback_attempts: 2 }
retry: { retry_delay: 0.05 }
server: { request_deadline: 20 }
`,
    'configured',
  );
  connection = await Connection.connect({ address: inject('temporal') });
  temporalClient = new Client({ connection });
});
afterAll(async () => {
  await gateway.stop();
  await connection.close();
  await providers.stop();
  await bedrock.stop();
  vi.unstubAllEnvs();
});
afterEach(() => answer({}));

describe('a fallback', () => {
  it('shows in the answer, in the ledger and in the history', async () => {
    answer({ anthropic: overloaded });
    const { data, response } = await ask('claude-haiku-4-5');
    expect(data.choices[0]?.message.content).toBe('Hello from Bedrock.');
    expect(data).toMatchObject({
      metadata: { provider: 'bedrock', region: 'us-east-1', attempts: 4, fallback_from: 'anthropic' },
    });
    expect(response.headers.get('x-holdfast-attempts')).toBe('4');
    expect(providers.count(ANTHROPIC)).toBe(3);

    expect(await entry(data.id)).toMatchObject({
      status: 'fallback',
      provider_used: 'bedrock',
      attempts: [
        { target: 'anthropic/claude-haiku-4-5', n: 1, state: 'failed', error: 'provider_overloaded', cost_usd: 0 },
        { target: 'anthropic/claude-haiku-4-5', n: 2, state: 'failed', error: 'provider_overloaded', cost_usd: 0 },
        { target: 'anthropic/claude-haiku-4-5', n: 3, state: 'failed', error: 'provider_overloaded', cost_usd: 0 },
        { target: 'bedrock/anthropic.claude-haiku-4-5-20251001-v1:0', n: 1, state: 'succeeded', error: null },
      ],
    });

    const handle = temporalClient.workflow.getHandle(data.id);
    await handle.result();
    const events = await historyOf(data.id);
    const scheduled = events.filter((event) => event.activityTaskScheduledEventAttributes);
    const summaries = scheduled.map((event) => String(event.userMetadata?.summary?.data));
    expect(summaries).toEqual(['"anthropic/claude-haiku-4-5"', '"bedrock/anthropic.claude-haiku-4-5-20251001-v1:0"']);
    const [first, second] = events.flatMap((event) => event.activityTaskStartedEventAttributes ?? []);
    expect(first).toMatchObject({
      attempt: 3,
      lastFailure: { applicationFailureInfo: { type: 'provider_overloaded' } },
    });
    expect(second?.attempt).toBe(1);
    const [failed] = events.flatMap((event) => event.activityTaskFailedEventAttributes ?? []);
    expect(failed?.failure?.message).toBe('anthropic: Overloaded');
    const description = await handle.describe();
    expect(await description.staticSummary()).toBe('claude-haiku-4-5 for master');
    expect(description.searchAttributes).toMatchObject({
      HoldfastKey: ['master'],
      HoldfastProvider: ['bedrock'],
      HoldfastModel: ['anthropic.claude-haiku-4-5-20251001-v1:0'],
      // As it started: the worker's own note would be another record.
      BuildIds: ['unversioned', expect.stringMatching(/^unversioned:holdfast-/)],
    });
  });

  it('is taken at once for an error that repeating cannot mend', async () => {
    answer({ anthropic: anthropicError(401, 'authentication_error', 'invalid x-api-key') });
    const { data } = await ask('claude-haiku-4-5');
    expect(data).toMatchObject({ metadata: { provider: 'bedrock', attempts: 2 } });
  });

  it('is not taken for the caller’s mistake', async () => {
    answer({ anthropic: anthropicError(400, 'invalid_request_error', 'messages: nonsense') });
    await expect(ask('claude-haiku-4-5')).rejects.toMatchObject({ status: 400, code: 'invalid_request' });
    expect(providers.count(ANTHROPIC)).toBe(1);
    expect(bedrock.getRequests().filter((request) => request.path.includes('converse')).length).toBeLessThanOrEqual(2);
  });

  it('does not wait long for a Retry-After while another target exists', async () => {
    const busy = { ...anthropicError(429, 'rate_limit_error'), headers: { 'retry-after': '30' } };
    answer({ anthropic: busy });
    const { data } = await ask('claude-haiku-4-5');
    expect(data).toMatchObject({ metadata: { provider: 'bedrock', attempts: 2 } });
  });

  it('streams the second target’s answer as if there had been no first', async () => {
    answer({ anthropic: overloaded });
    const { data } = await ask('claude-haiku-4-5', { stream: true });
    let text = '';
    for await (const chunk of data as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>)
      text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe('Hello from Bedrock.');
  });
});

describe('a failed request', () => {
  it('is repeated by the gateway, and SDKs are told not to', async () => {
    answer({ openai: { status: 500, body: { error: { message: 'oops', type: 'server_error' } } } });
    const stubborn = new OpenAI({ apiKey: 'sk-master-for-tests', baseURL: `${gateway.url}/v1`, maxRetries: 2 });
    const error = await stubborn.chat.completions
      .create({ model: 'openai/gpt-5-mini', messages: [{ role: 'user', content: 'nothing matches' }] })
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ status: 502, code: 'provider_error' });
    expect([providers.count(OPENAI), providers.count(ANTHROPIC)]).toEqual([3, 3]);
    expect((error as APIError).headers?.get('x-should-retry')).toBe('false');
  });

  it('ends the run as failed under the catalogue’s code', async () => {
    answer({ openai: { status: 400, body: { error: { message: 'bad', param: 'messages' } } } });
    const error = (await ask('openai/gpt-5-mini').catch((thrown: unknown) => thrown)) as APIError;
    expect(error).toMatchObject({ status: 400, param: 'messages' });
    const id = error.headers?.get('x-holdfast-run-id') ?? '';
    expect(await entry(id)).toMatchObject({
      state: 'failed',
      status: 'failure',
      error_code: 'provider_invalid_request',
    });
    await temporalClient.workflow
      .getHandle(id)
      .result()
      .catch(() => {});
    const events = await historyOf(id);
    const [failed] = events.flatMap((event) => event.workflowExecutionFailedEventAttributes ?? []);
    expect(failed?.failure?.applicationFailureInfo?.type).toBe('provider_invalid_request');
    const again = await gateway.fetch(`/v1/chat/completions/${id}`);
    expect(again.status).toBe(400);
    expect(await again.json()).toMatchObject({ error: { code: 'invalid_request' } });
  });

  it('that was retried and then answered counts every attempt', async () => {
    answer({
      openai: [
        { status: 503 },
        { status: 429, headers: { 'retry-after-ms': '20' } },
        { body: openaiCompletion('third') },
      ],
    });
    const { data } = await ask('openai/gpt-5-mini');
    expect(data).toMatchObject({ choices: [{ message: { content: 'third' } }], metadata: { attempts: 3 } });
    const { attempts } = await entry(data.id);
    expect(attempts.map((attempt: { error: string }) => attempt.error)).toEqual([
      'provider_overloaded',
      'provider_rate_limited',
      null,
    ]);
  });

  it('by a provider that hangs is over by the provider’s timeout', async () => {
    answer({ openai: [{ delayMs: 60_000 }, { body: openaiCompletion('second') }] });
    const { data } = await ask('openai/gpt-5-mini');
    expect(data.choices[0]?.message.content).toBe('second');
    const { attempts } = await entry(data.id);
    expect(attempts).toMatchObject([{ state: 'unknown', error: 'provider_timeout' }, { state: 'succeeded' }]);
    expect(attempts[0].cost_usd).toBeGreaterThan(0);
  });
});

describe('a stream', () => {
  const read = async (body: ReadableStream<Uint8Array> | null): Promise<string> => {
    let text = '';
    const decoder = new TextDecoder();
    for await (const bytes of body as unknown as AsyncIterable<Uint8Array>)
      text += decoder.decode(bytes, { stream: true });
    return text;
  };
  const stream = (headers: Record<string, string> = {}, signal?: AbortSignal) =>
    gateway.fetch('/v1/chat/completions', {
      json: { model: 'openai/gpt-5-mini', stream: true, messages: [{ role: 'user', content: 'hello' }] },
      headers,
      ...(signal && { signal }),
    });

  it('is relayed as it arrives, numbered, and ends with [DONE] and what it cost', async () => {
    answer({ openai: { chunks: openaiStream(['a', 'b', 'c']), intervalMs: 150 } });
    const response = await stream();
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const arrivals: number[] = [];
    let text = '';
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
      arrivals.push(performance.now());
      text += new TextDecoder().decode(bytes);
    }
    const span = (arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0);
    expect(span).toBeGreaterThan(250);
    expect(text.match(/^id: \d+$/gm)?.slice(0, 3)).toEqual(['id: 0', 'id: 1', 'id: 2']);
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
    const last = JSON.parse(
      text
        .trimEnd()
        .split('\n')
        .filter((line) => line.startsWith('data: {'))
        .at(-1)
        ?.slice(6) ?? '',
    );
    expect(last).toMatchObject({
      choices: [{ finish_reason: 'stop' }],
      metadata: { provider: 'openai', cost_usd: expect.any(Number) },
    });
  });

  it('that fails before its first token is an HTTP error', async () => {
    answer({ openai: { status: 400, body: { error: { message: 'bad' } } } });
    const response = await stream();
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toContain('application/json');
  });

  it('that breaks after its first token ends with an error event, and the run with it', async () => {
    answer({ openai: { chunks: openaiDeltas(['Hel', 'lo']), cut: true } });
    const response = await stream();
    const id = response.headers.get('x-holdfast-run-id') ?? '';
    const text = await read(response.body);
    expect(text).toContain('"content":"Hel"');
    expect(text).not.toContain('[DONE]');
    const [, data] = /event: error\nid: \d+\ndata: (.*)\n/.exec(text) ?? [];
    expect(JSON.parse(data ?? '')).toMatchObject({ error: { code: 'stream_interrupted', type: 'server_error' } });
    expect(await entry(id)).toMatchObject({
      state: 'failed',
      error_code: 'provider_stream_interrupted',
      attempts: [
        { state: 'failed', error: 'provider_network', usage_estimated: true, completion_tokens: expect.any(Number) },
      ],
    });
    expect(providers.count(OPENAI)).toBe(1);
  });

  it('that breaks is an exception of the official client', async () => {
    answer({ openai: { chunks: openaiDeltas(['Hel']), cut: true } });
    const { data } = await ask('openai/gpt-5-mini', { stream: true });
    const consume = async () => {
      for await (const _chunk of data as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>);
    };
    await expect(consume()).rejects.toBeInstanceOf(OpenAI.APIError);
  });

  it('that breaks goes on for a caller who can fetch the answer by x-request-id', async () => {
    answer({ openai: [{ chunks: openaiDeltas(['Hel']), cut: true }, { chunks: openaiStream(['All', ' of', ' it']) }] });
    const requestId = crypto.randomUUID();
    const text = await read((await stream({ 'x-request-id': requestId })).body);
    expect(text).toContain('event: error');
    expect(await fetched(requestId)).toBe('All of it');
  });

  it('whose caller hangs up is cancelled and settled', async () => {
    answer({ openai: { chunks: openaiStream(Array.from({ length: 200 }, (_, i) => `word${i} `)), intervalMs: 50 } });
    const abort = new AbortController();
    const response = await stream({}, abort.signal);
    const id = response.headers.get('x-holdfast-run-id') ?? '';
    const reader = response.body?.getReader();
    await reader?.read();
    abort.abort();
    await reader?.read().catch(() => {});
    expect(await entry(id)).toMatchObject({
      state: 'cancelled',
      attempts: [{ state: 'cancelled', usage_estimated: true, cost_usd: expect.any(Number) }],
    });
    // The ledger is settled before the workflow closes.
    await expect(temporalClient.workflow.getHandle(id).result()).rejects.toMatchObject({
      cause: { name: 'CancelledFailure' },
    });
  });

  it('whose caller hangs up goes on if it can be fetched by x-request-id', async () => {
    answer({ openai: { chunks: openaiStream(['a', 'b', 'c', 'd']), intervalMs: 100 } });
    const abort = new AbortController();
    const requestId = crypto.randomUUID();
    const response = await stream({ 'x-request-id': requestId }, abort.signal);
    const reader = response.body?.getReader();
    await reader?.read();
    abort.abort();
    await reader?.read().catch(() => {});
    const pending = await gateway.fetch(`/v1/chat/completions/${requestId}`);
    expect([200, 202]).toContain(pending.status);
    expect(await fetched(requestId)).toBe('abcd');
  });
});

describe('an operator', () => {
  it('cancels a run in Temporal, and its caller is told', async () => {
    answer({ openai: { delayMs: 60_000 } });
    const requestId = crypto.randomUUID();
    const asking = ask('openai/gpt-5-mini', {}, { headers: { 'x-request-id': requestId } }).catch(
      (error: unknown) => error,
    );
    const id = await eventually(async () => {
      const { data } = await gateway.json('/logs?limit=5');
      return data.find(
        (row: { request_id: string; attempts: unknown[] }) => row.request_id === requestId && row.attempts.length,
      )?.id as string | undefined;
    });
    await temporalClient.workflow.getHandle(id).cancel();
    expect(await asking).toMatchObject({ status: 409, code: 'request_cancelled' });
    expect(await entry(id)).toMatchObject({ state: 'cancelled' });
  });

  it('sees no prompt and no key in a history', async () => {
    answer({ openai: { body: openaiCompletion('a secret answer') } });
    const { data } = await gateway.client.chat.completions
      .create({ model: 'openai/gpt-5-mini', messages: [{ role: 'user', content: 'a secret question' }] })
      .withResponse();
    await temporalClient.workflow.getHandle(data.id).result();
    const events = await historyOf(data.id);
    const payloads = JSON.stringify(
      events.map((event) => temporal.api.history.v1.HistoryEvent.toObject(event as never, { bytes: String })),
    );
    const decoded = payloads.replace(/"data":"([A-Za-z0-9+/=]+)"/g, (_match, data64: string) =>
      Buffer.from(data64, 'base64').toString(),
    );
    expect(decoded).toContain(data.id);
    expect(decoded).not.toContain('secret');
    expect(decoded).not.toContain('sk-');
  });
});

describe('x-request-id', () => {
  it('is used once; the second request is a conflict that says where the answer is', async () => {
    answer({ openai: { body: openaiCompletion('first') } });
    const headers = { 'x-request-id': crypto.randomUUID() };
    const { response } = await ask('openai/gpt-5-mini', {}, { headers });
    expect(response.headers.get('x-request-id')).toBe(headers['x-request-id']);
    await expect(ask('openai/gpt-5-mini', {}, { headers })).rejects.toMatchObject({
      status: 409,
      param: 'x-request-id',
    });
    expect(providers.count(OPENAI)).toBe(1);
  });
});
