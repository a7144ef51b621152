import { describe, expect, it } from 'vitest';
import { requirementsOf } from '../../domain/capabilities.ts';
import { type ModelRequest, modelRequestSchema } from '../../domain/chat.ts';

const needs = (extra: Record<string, unknown>) =>
  requirementsOf(modelRequestSchema.parse({ messages: [{ role: 'user', content: 'hi' }], ...extra })).map(
    ({ capability, param }) => `${capability} (${param})`,
  );
const tool = { type: 'function', function: { name: 'f' } };

describe('requirementsOf', () => {
  it('is empty for plain text', () => {
    expect(needs({ temperature: 0.5, top_p: 1, stop: 'x', max_tokens: 5, user: 'u', n: 1, store: true })).toEqual([]);
  });

  it.each<[string, Partial<ModelRequest>, string[]]>([
    ['tools', { tools: [tool] as never }, ['tools (tools)']],
    ['custom tools', { tools: [{ type: 'custom' }] }, ['tools (tools)', 'custom_tools (tools)']],
    ['single tool calls', { parallel_tool_calls: false }, ['parallel_tool_calls (parallel_tool_calls)']],
    ['JSON mode', { response_format: { type: 'json_object' } }, ['json_mode (response_format)']],
    [
      'a schema',
      { response_format: { type: 'json_schema', json_schema: { name: 's' } } },
      ['json_schema (response_format)'],
    ],
    ['choices', { n: 2 }, ['multiple_choices (n)']],
    ['a seed', { seed: 0 }, ['seed (seed)']],
    ['log probabilities', { logprobs: true, top_logprobs: 2 }, ['logprobs (logprobs)']],
    ['penalties', { presence_penalty: 1 }, ['penalties (presence_penalty)']],
    ['biases', { logit_bias: { '5': 1 } }, ['logit_bias (logit_bias)']],
    ['heat', { temperature: 1.5 }, ['temperature_above_1 (temperature)']],
    ['reasoning', { reasoning_effort: 'low' }, ['reasoning (reasoning_effort)']],
    ['an unknown field', { prediction: {} } as never, ['openai_fields (prediction)']],
  ])('sees %s', (_name, extra, expected) => {
    expect(needs(extra)).toEqual(expected);
  });

  it('names the message part that needs eyes or ears', () => {
    const content = [
      { type: 'text', text: 'look' },
      { type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } },
      { type: 'image_url', image_url: { url: 'https://example.com/a.png' } },
      { type: 'input_audio', input_audio: { data: 'AA==', format: 'wav' } },
    ];
    expect(needs({ messages: [{ role: 'user', content }] })).toEqual([
      'vision (messages[0].content[1])',
      'vision (messages[0].content[2])',
      'image_url (messages[0].content[2])',
      'audio_input (messages[0].content[3])',
    ]);
  });
});
