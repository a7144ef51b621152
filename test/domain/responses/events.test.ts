import fc from 'fast-check';
import OpenAI from 'openai';
import { accumulateResponse } from 'openai/lib/responses/ResponseAccumulator';
import type { Response, ResponseStreamEvent } from 'openai/resources/responses/responses';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ChoiceDelta, ModelResult, ResultMessage } from '../../../domain/chat.ts';
import { NO_USAGE } from '../../../domain/money.ts';
import { responseBody } from '../../../domain/responses/body.ts';
import { type ResponseEvent, ResponseEvents } from '../../../domain/responses/events.ts';
import { outputItemsOf } from '../../../domain/responses/output-items.ts';
import { toResponseSeed } from '../../../domain/responses/seed.ts';
import { FixtureServer, sse } from '../../support/fixture-server.ts';

const identity = { id: 'resp_1', createdAt: 1_700_000_000, model: 'smart' };
const seed = toResponseSeed(identity, responseBody.parse({ input: 'x' }));
const backgroundSeed = toResponseSeed(identity, responseBody.parse({ input: 'x', background: true }));
const metadata = { provider: 'demo', latency_ms: 3, cost_usd: 0.1, attempts: 1 };
const error = { code: 'provider_network', message: 'cut' } as const;

type Delta = ChoiceDelta['delta'];
type Call = NonNullable<ResultMessage['tool_calls']>[number];

const of = (delta: Delta, extra: Partial<ChoiceDelta> = {}): ChoiceDelta[] => [{ index: 0, delta, ...extra }];
const resultOf = (message: Partial<ResultMessage>, finish_reason = 'stop', logprobs?: unknown): ModelResult => ({
  model: 'model-1',
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content: null, ...message },
      finish_reason,
      native_finish_reason: 'x',
      ...(logprobs !== undefined && { logprobs }),
    },
  ] as ModelResult['choices'],
  usage: { ...NO_USAGE, inputTokens: 1, outputTokens: 2 },
});
const functionCall = (id: string, args: string): Call => ({
  id,
  type: 'function',
  function: { name: 'f', arguments: args },
});

/** Everything of an event that its readers act on, in short. */
function brief(event: ResponseEvent): string {
  const type = event.type.replace('response.', '');
  if ('response' in event) return `${type} ${event.response.status}`;
  const at = 'content_index' in event ? `${event.output_index}.${event.content_index}` : event.output_index;
  if ('item' in event) return `${type} ${at} ${event.item.id} ${event.item.status}`;
  const text = 'delta' in event ? event.delta : Object.values(event).find((_, i) => Object.keys(event)[i] === 'text');
  return [type, at, ...(text === undefined ? [] : [text])].join(' ');
}

/** What the official client makes of the events. */
function accumulate(events: readonly ResponseEvent[]): Response {
  let snapshot: Response | undefined;
  for (const event of events) {
    snapshot = accumulateResponse(JSON.parse(JSON.stringify(event)) as ResponseStreamEvent, snapshot);
  }
  if (!snapshot) throw new Error('no events');
  return snapshot;
}

const endsWith = (events: readonly ResponseEvent[]) => {
  const last = events.at(-1);
  if (!last || !('response' in last)) throw new Error('the stream has no end');
  return last;
};

describe('a stream of events', () => {
  it('opens, fills and closes one item after the other', () => {
    const fold = new ResponseEvents(seed);
    const call = functionCall('c', '{"a":1}');
    const events = [
      ...fold.created(),
      ...fold.running(),
      ...fold.delta(of({ reasoning_content: 'hm' })),
      ...fold.delta(of({ content: 'He' })),
      ...fold.delta(of({ content: 'y' })),
      ...fold.delta(
        of({ tool_calls: [{ index: 0, id: 'c', type: 'function', function: { name: 'f', arguments: '' } }] }),
      ),
      ...fold.delta(of({ tool_calls: [{ index: 0, function: { arguments: '{"a":1}' } }] })),
      ...fold.completed(
        resultOf({ reasoning_content: 'hm', content: 'Hey', tool_calls: [call] }, 'tool_calls'),
        metadata,
      ),
    ];
    expect(events.map(brief)).toEqual([
      'created in_progress',
      'in_progress in_progress',
      'output_item.added 0 rs_1_0 in_progress',
      'content_part.added 0.0',
      'reasoning_text.delta 0.0 hm',
      'reasoning_text.done 0.0 hm',
      'content_part.done 0.0',
      'output_item.done 0 rs_1_0 completed',
      'output_item.added 1 msg_1_0 in_progress',
      'content_part.added 1.0',
      'output_text.delta 1.0 He',
      'output_text.delta 1.0 y',
      'output_text.done 1.0 Hey',
      'content_part.done 1.0',
      'output_item.done 1 msg_1_0 completed',
      'output_item.added 2 fc_1_0 in_progress',
      'function_call_arguments.delta 2 {"a":1}',
      'function_call_arguments.done 2',
      'output_item.done 2 fc_1_0 completed',
      'completed completed',
    ]);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
  });

  it('shows everything of a call that did not stream', () => {
    const fold = new ResponseEvents(seed);
    const events = [...fold.created(), ...fold.completed(resultOf({ content: 'a', refusal: 'b' }), metadata)];
    expect(events.map(brief)).toEqual([
      'created in_progress',
      'in_progress in_progress',
      'output_item.added 0 msg_1_0 in_progress',
      'content_part.added 0.0',
      'output_text.delta 0.0 a',
      'output_text.done 0.0 a',
      'content_part.done 0.0',
      'content_part.added 0.1',
      'refusal.delta 0.1 b',
      'refusal.done 0.1',
      'content_part.done 0.1',
      'output_item.done 0 msg_1_0 completed',
      'completed completed',
    ]);
    expect(endsWith(events).response).toMatchObject({ holdfast: metadata, model: 'model-1' });
  });

  it('shows the rest of what streamed in part', () => {
    const fold = new ResponseEvents(seed);
    fold.delta(of({ content: 'Hel' }));
    expect(fold.completed(resultOf({ content: 'Hello' }), metadata).map(brief)[0]).toBe('output_text.delta 0.0 lo');
  });

  it('says of a background response when it waits and when it runs, once', () => {
    const fold = new ResponseEvents(backgroundSeed);
    expect(fold.created().map(brief)).toEqual(['created queued', 'queued queued']);
    expect(fold.running().map(brief)).toEqual(['in_progress in_progress']);
    expect(fold.running()).toEqual([]);
    expect(fold.delta(of({ content: 'a' })).map(brief)[0]).toBe('output_item.added 0 msg_1_0 in_progress');
  });

  it('says that a background response runs even if nobody else did', () => {
    const fold = new ResponseEvents(backgroundSeed);
    fold.created();
    expect(fold.delta(of({ content: 'a' })).map(brief)[0]).toBe('in_progress in_progress');
  });

  it('starts over after an interruption, with new items and numbers that go on', () => {
    const fold = new ResponseEvents(seed);
    const result = resultOf({ content: 'new' });
    expect(fold.interrupted()).toEqual([]);
    const events = [
      ...fold.created(),
      ...fold.delta(of({ reasoning_content: 'r' })),
      ...fold.delta(of({ content: 'old' })),
    ];
    const closing = fold.interrupted();
    expect(closing.map(brief)).toEqual([
      'output_text.done 1.0 old',
      'content_part.done 1.0',
      'output_item.done 1 msg_1_0 incomplete',
    ]);
    expect(fold.interrupted()).toEqual([]);
    events.push(...closing, ...fold.delta(of({ content: 'new' })), ...fold.completed(result, metadata));
    expect(events.map(brief)).toContain('output_item.added 2 msg_1_2 in_progress');
    expect(endsWith(events).response.output).toEqual(outputItemsOf(seed, result, 2));
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
    expect(accumulate(events).output_text).toBe('new');
  });

  it('lets the result win over what was shown', () => {
    const fold = new ResponseEvents(seed);
    const events = [
      ...fold.created(),
      ...fold.delta(of({ content: 'Hi' })),
      ...fold.completed(resultOf({ content: 'Hello' }), metadata),
    ];
    expect(events.map(brief)).toContain('output_item.done 0 msg_1_0 incomplete');
    expect(events.map(brief)).toContain('output_text.done 1.0 Hello');
    expect(endsWith(events).response.output).toMatchObject([{ content: [{ text: 'Hello' }], status: 'completed' }]);
  });

  it('ends incomplete when the model ran out of tokens', () => {
    const fold = new ResponseEvents(seed);
    const events = [
      ...fold.delta(of({ content: 'He' })),
      ...fold.completed(resultOf({ content: 'He' }, 'length'), metadata),
    ];
    expect(events.map(brief).slice(-2)).toEqual(['output_item.done 0 msg_1_0 incomplete', 'incomplete incomplete']);
    expect(endsWith(events).response.incomplete_details).toEqual({ reason: 'max_output_tokens' });
  });

  it('closes what is open when the run fails or is cancelled', () => {
    const failing = new ResponseEvents(seed);
    failing.delta(of({ content: 'He' }));
    const failed = failing.failed(error);
    expect(failed.map(brief).slice(-2)).toEqual(['output_item.done 0 msg_1_0 incomplete', 'failed failed']);
    expect(endsWith(failed).response.error).toEqual({ code: 'server_error', message: 'cut' });
    const cancelled = new ResponseEvents(backgroundSeed).failed({ code: 'gateway_cancelled', message: 'x' });
    expect(cancelled.map(brief)).toEqual(['failed cancelled']);
    expect(endsWith(cancelled).response.error).toBeNull();
  });

  it('does not call a function call done before its arguments are', () => {
    const piece = (index: number, args: string, id?: string): ChoiceDelta[] =>
      of({ tool_calls: [{ index, ...(id && { id }), function: { ...(id && { name: 'f' }), arguments: args } }] });
    const fold = new ResponseEvents(seed);
    const events = [
      ...fold.delta(piece(0, '{"a":', 'a')),
      ...fold.delta(piece(1, '{}', 'b')),
      ...fold.delta(piece(0, '1}')),
      ...fold.delta(piece(2, '{}', 'c')),
    ];
    expect(events.map(brief)).toEqual([
      'output_item.added 0 fc_1_0 in_progress',
      'function_call_arguments.delta 0 {"a":',
      'output_item.added 1 fc_1_1 in_progress',
      'function_call_arguments.delta 1 {}',
      'function_call_arguments.delta 0 1}',
      'function_call_arguments.done 0',
      'output_item.done 0 fc_1_0 completed',
      'function_call_arguments.done 1',
      'output_item.done 1 fc_1_1 completed',
      'output_item.added 2 fc_1_2 in_progress',
      'function_call_arguments.delta 2 {}',
    ]);
  });

  it.each([
    ['went on after it was done', { index: 0, function: { arguments: ' ' } }, functionCall('a', '{} ')],
    ['turned out to be another', { index: 1, function: { arguments: '' } }, functionCall('z', '{}')],
  ])('shows a call anew that %s', (_name, late, first) => {
    const fold = new ResponseEvents(seed);
    fold.delta(of({ tool_calls: [{ index: 0, id: 'a', function: { name: 'f', arguments: '{}' } }] }));
    fold.delta(of({ tool_calls: [{ index: 1, id: 'b', function: { name: 'f', arguments: '{}' } }] }));
    fold.delta(of({ tool_calls: [late] }));
    const result = resultOf({ tool_calls: [first, functionCall('b', '{}')] }, 'tool_calls');
    const events = fold.completed(result, metadata);
    expect(events.map(brief)).toContain('output_item.done 1 fc_1_1 incomplete');
    expect(
      events.flatMap((event) => (event.type === 'response.output_item.done' ? [event.item] : [])).slice(1),
    ).toEqual(outputItemsOf(seed, result, 2));
    expect(endsWith(events).response.output).toEqual(outputItemsOf(seed, result, 2));
  });

  it('shows the log probabilities of the rest with the rest', () => {
    const token = (text: string) => ({ token: text, logprob: -1, bytes: [1], top_logprobs: [] });
    const content = [token('Hel'), token('lo')];
    const fold = new ResponseEvents(seed);
    fold.delta(of({ content: 'Hel' }, { logprobs: { content: content.slice(0, 1) } }));
    const [rest, done] = fold.completed(resultOf({ content: 'Hello' }, 'stop', { content }), metadata);
    expect(rest).toMatchObject({ type: 'response.output_text.delta', delta: 'lo', logprobs: [token('lo')] });
    expect(done).toMatchObject({ type: 'response.output_text.done', text: 'Hello', logprobs: content });
  });

  it('ignores other choices', () => {
    const fold = new ResponseEvents(seed);
    expect(fold.delta([{ index: 1, delta: { content: 'x' } }])).toEqual([]);
  });

  it('is the same whenever the same log is rendered', () => {
    const render = () => {
      const fold = new ResponseEvents(backgroundSeed);
      return [
        ...fold.created(),
        ...fold.delta(of({ content: 'a' })),
        ...fold.interrupted(),
        ...fold.completed(resultOf({ content: 'b' }), metadata),
      ];
    };
    expect(JSON.stringify(render())).toBe(JSON.stringify(render()));
  });
});

/** Pieces of a text, in order. */
const pieces = (text: string) =>
  fc.array(fc.nat(text.length), { maxLength: 4 }).map((cuts) => {
    const ends = [...cuts, text.length].sort((a, b) => a - b);
    return ends.map((end, i) => text.slice(ends[i - 1] ?? 0, end)).filter(Boolean);
  });
const word = fc.string({ unit: 'grapheme', maxLength: 8 });
const args = fc.dictionary(fc.string({ maxLength: 3 }), fc.jsonValue({ maxDepth: 1 }), { maxKeys: 2 });
const call: fc.Arbitrary<(n: number) => Call> = fc.oneof(
  args.map((value) => (n: number) => functionCall(`call-${n}`, JSON.stringify(value))),
  word.map(
    (input) =>
      (n: number): Call => ({ id: `call-${n}`, type: 'custom', custom: { name: 'g', input } }),
  ),
);

/** A result and the deltas of one stream that gives it; pieces of parallel calls come in turns. */
const answer = fc
  .record({ reasoning: word, content: word, refusal: word, calls: fc.array(call, { maxLength: 3 }) })
  .chain(({ reasoning, content, refusal, calls: makers }) => {
    const calls = makers.map((make, n) => make(n));
    const textOf = (c: Call) => (c.type === 'custom' ? c.custom.input : c.function.arguments);
    const result = resultOf({
      content: content || null,
      ...(reasoning && { reasoning_content: reasoning }),
      ...(refusal && { refusal }),
      ...(calls.length > 0 && { tool_calls: calls }),
    });
    const opening = (c: Call, index: number): Delta =>
      c.type === 'custom'
        ? { tool_calls: [{ index, id: c.id, type: c.type, custom: { name: c.custom.name, input: '' } }] }
        : { tool_calls: [{ index, id: c.id, type: c.type, function: { name: c.function.name, arguments: '' } }] };
    const going = (c: Call, index: number, text: string): Delta =>
      c.type === 'custom'
        ? { tool_calls: [{ index, custom: { input: text } }] }
        : { tool_calls: [{ index, function: { arguments: text } }] };
    return fc
      .record({
        reasoning: pieces(reasoning),
        content: pieces(content),
        refusal: pieces(refusal),
        calls: fc.tuple(...calls.map((c) => pieces(textOf(c)))),
        order: fc.infiniteStream(fc.nat()),
      })
      .map((cut) => {
        const deltas: Delta[] = [
          ...cut.reasoning.map((reasoning_content) => ({ reasoning_content })),
          ...cut.content.map((text) => ({ content: text })),
          ...cut.refusal.map((text) => ({ refusal: text })),
          ...calls.map(opening),
        ];
        const waiting = calls.map((c, index) => ({ c, index, left: [...(cut.calls[index] ?? [])] }));
        for (;;) {
          const open = waiting.filter(({ left }) => left.length > 0);
          const next = open[Number(cut.order.next().value) % (open.length || 1)];
          if (!next) return { result, deltas };
          deltas.push(going(next.c, next.index, next.left.shift() ?? ''));
        }
      });
  });

describe('any split of a result into deltas', () => {
  it('accumulates to the items of the result, with gapless numbers', () => {
    fc.assert(
      fc.property(answer, fc.nat(20), ({ result, deltas }, lost) => {
        const fold = new ResponseEvents(seed);
        // The end of the deltas may not arrive; the result tells.
        const seen = deltas.slice(0, Math.max(0, deltas.length - lost));
        const events = [
          ...fold.created(),
          ...seen.flatMap((delta) => fold.delta(of(delta))),
          ...fold.completed(result, metadata),
        ];
        expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
        const items = outputItemsOf(seed, result);
        expect(accumulate(events.slice(0, -1)).output).toEqual(items);
        expect(accumulate(events).output).toEqual(items);
        const closed = events.filter(({ type }) => type === 'response.output_item.done').length;
        expect(closed).toBe(items.length);
      }),
    );
  });

  it('goes on from an interruption at any place', () => {
    fc.assert(
      fc.property(answer, answer, fc.nat(10), (dead, { result, deltas }, after) => {
        const fold = new ResponseEvents(seed);
        const events = [
          ...fold.created(),
          ...dead.deltas.slice(0, after).flatMap((delta) => fold.delta(of(delta))),
          ...fold.interrupted(),
        ];
        const before = accumulate(events).output.length;
        events.push(...deltas.flatMap((delta) => fold.delta(of(delta))), ...fold.completed(result, metadata));
        const items = outputItemsOf(seed, result, before);
        expect(accumulate(events.slice(0, -1)).output.slice(before)).toEqual(items);
        expect(accumulate(events).output).toEqual(items);
        const ids = accumulate(events.slice(0, -1)).output.map((item) => item.id);
        expect(new Set(ids).size).toBe(ids.length);
      }),
    );
  });
});

describe('the official client', () => {
  const server = new FixtureServer();
  let client: OpenAI;
  beforeAll(async () => {
    await server.start();
    client = new OpenAI({ apiKey: 'k', baseURL: `${server.url}/v1`, maxRetries: 0 });
  });
  afterAll(() => server.stop());

  it('reads a stream with thoughts, text with log probabilities, and parallel calls', async () => {
    const token = (text: string) => ({ token: text, logprob: -1, bytes: null, top_logprobs: [] });
    const calls = [functionCall('a', '{"a":1}'), functionCall('b', '{}')];
    const message = { reasoning_content: 'hm', content: 'Hello', tool_calls: calls };
    const fold = new ResponseEvents(seed);
    server.reply = () => ({
      chunks: sse(
        ...fold.created(),
        ...fold.delta(of({ reasoning_content: 'hm' })),
        ...fold.delta(of({ content: 'Hel' }, { logprobs: { content: [token('Hel')] } })),
        ...fold.delta(of({ content: 'lo' }, { logprobs: { content: [token('lo')] } })),
        ...fold.delta(of({ tool_calls: [{ index: 0, id: 'a', function: { name: 'f', arguments: '{"a":' } }] })),
        ...fold.delta(of({ tool_calls: [{ index: 0, function: { arguments: '1}' } }] })),
        ...fold.delta(of({ tool_calls: [{ index: 1, id: 'b', function: { name: 'f', arguments: '{}' } }] })),
        ...fold.completed(resultOf(message, 'tool_calls', { content: [token('Hel'), token('lo')] }), metadata),
      ),
    });
    const stream = client.responses.stream({ model: 'smart', input: 'x' });
    const texts: string[] = [];
    const calledWith: string[] = [];
    stream.on('response.output_text.delta', ({ snapshot }) => texts.push(snapshot));
    stream.on('response.function_call_arguments.done', ({ arguments: given }) => calledWith.push(given));
    stream.on('response.output_text.done', ({ logprobs }) => texts.push(logprobs.map(({ token: t }) => t).join('|')));
    const final = await stream.finalResponse();
    expect(texts).toEqual(['Hel', 'Hello', 'Hel|lo']);
    expect(calledWith).toEqual(['{"a":1}', '{}']);
    expect(final).toMatchObject({ status: 'completed', output_text: 'Hello', usage: { total_tokens: 3 } });
    expect(final.output.map(({ type, id }) => `${type} ${id}`)).toEqual([
      'reasoning rs_1_0',
      'message msg_1_0',
      'function_call fc_1_0',
      'function_call fc_1_1',
    ]);
  });

  it('reads a stream that was interrupted and then failed', async () => {
    const fold = new ResponseEvents(seed);
    server.reply = () => ({
      chunks: sse(
        ...fold.created(),
        ...fold.delta(of({ content: 'a' })),
        ...fold.interrupted(),
        ...fold.delta(of({ refusal: 'b' })),
        ...fold.failed(error),
      ),
    });
    const final = await client.responses.stream({ model: 'smart', input: 'x' }).finalResponse();
    expect(final).toMatchObject({ status: 'failed', error: { code: 'server_error', message: 'cut' }, output: [] });
  });
});
