import { describe, expect, it } from 'vitest';
import { StreamAccumulator } from '../../domain/accumulator.ts';
import { adapterOf, call, collect, request, weatherTool } from '../support/adapters.ts';

const adapter = adapterOf({ type: 'demo' });
const saying = (content: string) => request({ messages: [{ role: 'user', content }] });

describe('the demo provider', () => {
  it('answers the same request the same way, streamed or not', async () => {
    const whole = await adapter.complete(saying('Hi there'), call());
    const accumulator = new StreamAccumulator();
    for (const event of await collect(adapter.stream(saying('Hi there'), call()))) accumulator.add(event);
    expect(accumulator.answer()).toEqual(whole);
    expect(whole.choices[0]?.message.content).toBe("Hello from Holdfast's demo provider. You said: Hi there");
    expect(whole.usage).toMatchObject({ inputTokens: 2, outputTokens: 9 });
  });

  it('calls a tool that the user’s words name, and answers with what it returned', async () => {
    const asked = { ...saying('What is the weather in Paris?'), tools: [weatherTool] };
    const { choices } = await adapter.complete(asked, call());
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { tool_calls: [{ function: { name: 'get_weather', arguments: '{"city":"demo"}' } }] },
    });
    const messages = [...asked.messages, { role: 'tool' as const, tool_call_id: 'x', content: 'sunny' }];
    const after = await adapter.complete({ ...asked, messages }, call());
    expect(after.choices[0]?.message.content).toBe('The tool answered: sunny');
  });

  it('calls all tools that the user’s words name at once, unless one at a time is asked for', async () => {
    const tool = (name: string) => ({ type: 'function' as const, function: { name, parameters: { type: 'object' } } });
    const asked = { ...saying('Look for flights and hotels.'), tools: ['flights', 'trains', 'hotels'].map(tool) };
    const called = async (rest: object = {}) => {
      const { choices } = await adapter.complete({ ...asked, ...rest }, call());
      return choices[0]?.message.tool_calls?.map((one) => [one.id, 'function' in one && one.function]);
    };
    const calls = ['flights', 'hotels'].map((name) => [`call_demo_0_${name}`, { name, arguments: '{}' }]);
    expect(await called()).toEqual(calls);
    expect(await called({ parallel_tool_calls: false })).toEqual(calls.slice(0, 1));
    const results = ['by air', 'by night'].map((content) => ({ role: 'tool' as const, tool_call_id: 'x', content }));
    const after = await adapter.complete({ ...asked, messages: [...asked.messages, ...results] }, call());
    expect(after.choices[0]?.message.content).toBe('The tools answered: by air and by night');
  });

  it('calls no tool unasked, and the demanded one always', async () => {
    const plain = await adapter.complete({ ...saying('Hi'), tools: [weatherTool] }, call());
    expect(plain.choices[0]?.finish_reason).toBe('stop');
    const forced = await adapter.complete({ ...saying('Hi'), tools: [weatherTool], tool_choice: 'required' }, call());
    expect(forced.choices[0]?.finish_reason).toBe('tool_calls');
  });

  it('follows a JSON schema', async () => {
    const schema = {
      type: 'object',
      properties: {
        name: { type: 'string' },
        tags: { type: 'array', items: { enum: ['a', 'b'] } },
        age: { type: 'integer', minimum: 3 },
      },
      required: ['name', 'tags', 'age'],
    };
    const format = { type: 'json_schema' as const, json_schema: { name: 's', schema } };
    const { choices } = await adapter.complete({ ...saying('Hi'), response_format: format }, call());
    expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({ name: 'demo', tags: ['a'], age: 3 });
  });

  it('gives as many choices as asked, keeps to the output limit and the stop sequence', async () => {
    const { choices } = await adapter.complete({ ...saying('Hi'), n: 2, max_tokens: 3 }, call());
    expect(choices.map((choice) => [choice.message.content, choice.finish_reason])).toEqual([
      ["Hello from Holdfast's", 'length'],
      ["Hello from Holdfast's", 'length'],
    ]);
    const stopped = await adapter.complete({ ...saying('Hi'), stop: ['demo'] }, call());
    expect(stopped.choices[0]?.message.content).toBe("Hello from Holdfast's");
  });

  it('fails on demand, as often as told', async () => {
    const scene = saying('Hi [demo error=rate_limited times=2 retry_after=1.5]');
    await expect(adapter.complete(scene, call({ attempt: 1 }))).rejects.toMatchObject({
      code: 'provider_rate_limited',
      retryAfterMs: 1_500,
    });
    await expect(adapter.complete(scene, call({ attempt: 2 }))).rejects.toThrow();
    expect((await adapter.complete(scene, call({ attempt: 3 }))).choices[0]?.message.content).toMatch(/You said: Hi$/);
  });

  it('breaks off in the middle on demand', async () => {
    const seen: unknown[] = [];
    const stream = async () => {
      for await (const event of adapter.stream(saying('Hi [demo tokens=9 cut=2]'), call())) {
        if (event.type === 'delta') seen.push(event);
      }
    };
    await expect(stream()).rejects.toMatchObject({ code: 'provider_network' });
    expect(seen).toHaveLength(2);
  });

  it('stops waiting when the call is aborted', async () => {
    const abort = new AbortController();
    const running = adapter.complete(saying('Hi [demo delay=60000]'), call({ signal: abort.signal }));
    abort.abort();
    await expect(running).rejects.toThrow();
  });
});
