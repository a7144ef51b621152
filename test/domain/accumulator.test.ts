import { describe, expect, it } from 'vitest';
import { StreamAccumulator } from '../../domain/accumulator.ts';
import type { StreamEvent } from '../../domain/chat.ts';
import { NO_USAGE } from '../../domain/money.ts';

function accumulate(...events: StreamEvent[]): StreamAccumulator {
  const accumulator = new StreamAccumulator();
  for (const event of events) accumulator.add(event);
  return accumulator;
}

const start: StreamEvent = { type: 'start', model: 'm' };
const stop = (index = 0): StreamEvent => ({ type: 'finish', index, reason: 'stop', native: 'end_turn' });

describe('StreamAccumulator', () => {
  it('joins text, reasoning and logprobs of each choice', () => {
    const answer = accumulate(
      start,
      { type: 'delta', choices: [{ index: 1, delta: { content: 'b' } }] },
      { type: 'delta', choices: [{ index: 0, delta: { reasoning_content: 'hm' }, logprobs: { content: [1] } }] },
      { type: 'delta', choices: [{ index: 0, delta: { content: 'a' }, logprobs: { content: [2] } }] },
      { type: 'delta', choices: [{ index: 0, delta: { content: 'A' } }] },
      stop(0),
      stop(1),
    ).answer();
    expect(answer.choices).toMatchObject([
      { index: 0, message: { content: 'aA', reasoning_content: 'hm' }, logprobs: { content: [1, 2] } },
      { index: 1, message: { content: 'b' }, native_finish_reason: 'end_turn' },
    ]);
  });

  it('joins the pieces of parallel tool calls', () => {
    const tool = (index: number, fields: object): StreamEvent => ({
      type: 'delta',
      choices: [{ index: 0, delta: { tool_calls: [{ index, ...fields }] } }],
    });
    const answer = accumulate(
      start,
      tool(0, { id: 'a', type: 'function', function: { name: 'add', arguments: '' } }),
      tool(1, { id: 'b', type: 'function', function: { name: 'sub', arguments: '{"x"' } }),
      tool(0, { function: { arguments: '{"y":1}' } }),
      tool(1, { function: { arguments: ':2}' } }),
      { type: 'finish', index: 0, reason: 'tool_calls', native: 'tool_use' },
    ).answer();
    expect(answer.choices[0]?.message).toEqual({
      role: 'assistant',
      content: null,
      tool_calls: [
        { id: 'a', type: 'function', function: { name: 'add', arguments: '{"y":1}' } },
        { id: 'b', type: 'function', function: { name: 'sub', arguments: '{"x":2}' } },
      ],
    });
  });

  it('joins the pieces of a custom tool’s input', () => {
    const tool = (fields: object): StreamEvent => ({
      type: 'delta',
      choices: [{ index: 0, delta: { tool_calls: [{ index: 0, ...fields }] } }],
    });
    const accumulated = accumulate(
      start,
      tool({ id: 'a', type: 'custom', custom: { name: 'sql', input: '' } }),
      tool({ custom: { input: 'select' } }),
      tool({ custom: { input: ' 1' } }),
      stop(),
    );
    expect(accumulated.answer().choices[0]?.message.tool_calls).toEqual([
      { id: 'a', type: 'custom', custom: { name: 'sql', input: 'select 1' } },
    ]);
    expect(accumulated.text).toBe('sqlselect 1');
  });

  it('is finished only when every choice is', () => {
    const half = accumulate(
      start,
      {
        type: 'delta',
        choices: [
          { index: 0, delta: { content: 'a' } },
          { index: 1, delta: { content: 'b' } },
        ],
      },
      stop(0),
    );
    expect(half.finished).toBe(false);
    half.add(stop(1));
    expect(half.finished).toBe(true);
    expect(new StreamAccumulator().finished).toBe(false);
  });

  it('reports usage only once it is final', () => {
    const usage = { ...NO_USAGE, inputTokens: 7 };
    const early = accumulate(start, { type: 'usage', usage, final: false });
    expect(early.answer().usage).toBeNull();
    expect(early.usage).toEqual(usage);
    early.add({ type: 'usage', usage, final: true });
    expect(early.answer().usage).toEqual(usage);
  });
});
