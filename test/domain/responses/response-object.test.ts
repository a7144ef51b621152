import type { Response } from 'openai/resources/responses/responses';
import { describe, expect, it } from 'vitest';
import type { ModelResult } from '../../../domain/chat.ts';
import type { ErrorCode } from '../../../domain/errors.ts';
import { NO_USAGE } from '../../../domain/money.ts';
import { type ResponseBody, responseBody } from '../../../domain/responses/body.ts';
import { outputItemsOf } from '../../../domain/responses/output-items.ts';
import {
  answeredResponse,
  failedResponse,
  pendingResponse,
  type ResponseObject,
} from '../../../domain/responses/response-object.ts';
import { toResponseSeed } from '../../../domain/responses/seed.ts';
import { PROTOCOL_STATES, RUN_STATES } from '../../../domain/run-state.ts';

/** The compiler's word that clients find what they expect, but for nulls that their types leave out. */
const asClientsSeeIt = (response: ResponseObject): Omit<Response, 'output_text' | 'usage' | 'tools' | 'text'> =>
  response;

const seedOf = (extra: Partial<ResponseBody> = {}) =>
  toResponseSeed(
    { id: 'resp_1', createdAt: 1_700_000_000, model: 'smart' },
    responseBody.parse({ input: 'x', ...extra }),
  );
const metadata = { provider: 'demo', latency_ms: 3, cost_usd: 0.1, attempts: 1 };
const resultOf = (message: object, finish_reason = 'stop', extra: Partial<ModelResult> = {}): ModelResult => ({
  model: 'model-1',
  choices: [
    { index: 0, message: { role: 'assistant', content: null, ...message }, finish_reason, native_finish_reason: 'x' },
  ] as ModelResult['choices'],
  usage: {
    ...NO_USAGE,
    inputTokens: 10,
    cachedInputTokens: 4,
    cacheWriteTokens: 1,
    outputTokens: 7,
    reasoningTokens: 2,
  },
  ...extra,
});

describe('a response', () => {
  it('has OpenAI’s defaults for what the caller did not set', () => {
    expect(asClientsSeeIt(pendingResponse(seedOf(), 'running'))).toEqual({
      id: 'resp_1',
      object: 'response',
      created_at: 1_700_000_000,
      status: 'in_progress',
      background: false,
      error: null,
      incomplete_details: null,
      instructions: null,
      max_output_tokens: null,
      max_tool_calls: null,
      metadata: {},
      model: 'smart',
      output: [],
      parallel_tool_calls: true,
      previous_response_id: null,
      prompt_cache_key: null,
      prompt_cache_retention: null,
      reasoning: { effort: null, summary: null },
      safety_identifier: null,
      service_tier: 'auto',
      store: true,
      temperature: null,
      text: { format: { type: 'text' } },
      tool_choice: 'auto',
      tools: [],
      top_logprobs: 0,
      top_p: null,
      truncation: 'disabled',
      usage: null,
    });
  });

  it('repeats what the caller set', () => {
    const set = {
      instructions: 'i',
      metadata: { a: 'b' },
      temperature: 0,
      top_p: 0.5,
      max_output_tokens: 20,
      previous_response_id: 'resp_0',
      parallel_tool_calls: false,
      store: false,
      truncation: 'auto',
      tool_choice: 'none',
      user: 'u',
    } as const;
    expect(pendingResponse(seedOf(set), 'running')).toMatchObject(set);
    const tools: ResponseBody['tools'] = [{ type: 'function', name: 'f' }];
    expect(pendingResponse(seedOf({ tools, background: true }), 'queued')).toMatchObject({
      background: true,
      status: 'queued',
      tools: [{ type: 'function', name: 'f', parameters: null, strict: null }],
    });
    expect(pendingResponse(seedOf({ reasoning: { generate_summary: 'concise' } }), 'running').reasoning).toEqual({
      effort: null,
      summary: 'concise',
    });
  });

  it('is answered with output, usage, the model that answered, and the gateway’s facts', () => {
    const response = answeredResponse(seedOf(), resultOf({ content: 'hi' }), metadata);
    expect(response).toMatchObject({
      status: 'completed',
      model: 'model-1',
      incomplete_details: null,
      metadata: {},
      holdfast: metadata,
      output: [{ id: 'msg_1_0', type: 'message' }],
      usage: {
        input_tokens: 10,
        input_tokens_details: { cached_tokens: 4, cache_write_tokens: 1 },
        output_tokens: 7,
        output_tokens_details: { reasoning_tokens: 2 },
        total_tokens: 17,
      },
    });
  });

  it('hands on what else the provider said, and the tier it used', () => {
    const extra = { system_fingerprint: 'fp', service_tier: 'default', object: 'chat.completion' };
    const response = answeredResponse(seedOf(), resultOf({ content: 'hi' }, 'stop', { extra }), metadata);
    expect(response).toMatchObject({ system_fingerprint: 'fp', service_tier: 'default', object: 'response' });
  });

  it.each([
    ['length', 'max_output_tokens'],
    ['content_filter', 'content_filter'],
  ])('is incomplete when the model stopped for %s', (finish, reason) => {
    const response = answeredResponse(seedOf(), resultOf({ reasoning_content: 'r', content: 'h' }, finish), metadata);
    expect(response).toMatchObject({ status: 'incomplete', incomplete_details: { reason }, error: null });
    expect(response.output.map(({ status }) => status)).toEqual(['completed', 'incomplete']);
  });

  it.each<[ErrorCode, string]>([
    ['policy_budget_exceeded', 'rate_limit_exceeded'],
    ['provider_rate_limited', 'rate_limit_exceeded'],
    ['provider_context_length', 'invalid_prompt'],
    ['provider_invalid_request', 'invalid_prompt'],
    ['caller_invalid_request', 'invalid_prompt'],
    ['provider_auth', 'server_error'],
    ['gateway_internal', 'server_error'],
  ])('failed with %s is an error with the code %s', (code, expected) => {
    const response = asClientsSeeIt(failedResponse(seedOf(), { code, message: 'm' }));
    expect(response).toMatchObject({ status: 'failed', error: { code: expected, message: 'm' }, output: [] });
  });

  it('that was cancelled has no error', () => {
    const response = failedResponse(seedOf(), { code: 'gateway_cancelled', message: 'm' });
    expect(response).toMatchObject({ status: 'cancelled', error: null });
  });
});

describe('outputItemsOf', () => {
  it('lists reasoning, message and calls with ids that follow from the response’s', () => {
    const token = { token: 'h', logprob: -1, bytes: null, top_logprobs: [{ token: 'j', logprob: -2, bytes: [106] }] };
    const result = resultOf({
      reasoning_content: 'hm',
      content: 'h',
      refusal: 'but no',
      tool_calls: [
        { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } },
        { id: 'b', type: 'custom', custom: { name: 'g', input: 'x' } },
      ],
    });
    const [choice] = result.choices;
    const withLogprobs = { ...result, choices: [{ ...choice, logprobs: { content: [token] } }] } as ModelResult;
    expect(outputItemsOf({ id: 'resp_1' }, withLogprobs)).toEqual([
      {
        id: 'rs_1_0',
        type: 'reasoning',
        summary: [],
        content: [{ type: 'reasoning_text', text: 'hm' }],
        status: 'completed',
      },
      {
        id: 'msg_1_0',
        type: 'message',
        role: 'assistant',
        status: 'completed',
        content: [
          {
            type: 'output_text',
            text: 'h',
            annotations: [],
            logprobs: [
              { token: 'h', logprob: -1, bytes: [], top_logprobs: [{ token: 'j', logprob: -2, bytes: [106] }] },
            ],
          },
          { type: 'refusal', refusal: 'but no' },
        ],
      },
      { id: 'fc_1_0', type: 'function_call', call_id: 'a', name: 'f', arguments: '{}', status: 'completed' },
      { id: 'ctc_1_1', type: 'custom_tool_call', call_id: 'b', name: 'g', input: 'x', status: 'completed' },
    ]);
  });

  it('has nothing for an answer that is empty or of another choice', () => {
    const result = resultOf({ content: '' });
    expect(outputItemsOf({ id: 'resp_1' }, result)).toEqual([]);
    expect(outputItemsOf({ id: 'resp_1' }, { ...result, choices: [] })).toEqual([]);
  });
});

describe('the states of a run', () => {
  it('have a word in every protocol, final for final', () => {
    const words = RUN_STATES.map((state) => [state, ...Object.values(PROTOCOL_STATES[state])].join(' '));
    expect(words).toEqual([
      'queued queued submitted working',
      'running in_progress working working',
      'input_required in_progress input-required input_required',
      'budget_exceeded in_progress working working',
      'paused in_progress working working',
      'completed completed completed completed',
      'failed failed failed failed',
      'cancelled cancelled canceled cancelled',
    ]);
  });
});
