import { sse } from './fixture-server.ts';

/** An answer of OpenAI's chat completions. */
export const openaiCompletion = (
  content: string,
  usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
) => ({
  id: 'chatcmpl-up',
  object: 'chat.completion',
  created: 1,
  model: 'gpt-5-mini-2025-08-07',
  choices: [
    { index: 0, message: { role: 'assistant', content, refusal: null }, logprobs: null, finish_reason: 'stop' },
  ],
  usage,
});

/** An answer that calls tools: pairs of name and arguments. */
export const openaiToolCalls = (...calls: readonly (readonly [string, object])[]) => {
  const { choices, ...rest } = openaiCompletion('');
  const tool_calls = calls.map(([name, args], index) => ({
    id: `call_${index}`,
    type: 'function',
    function: { name, arguments: JSON.stringify(args) },
  }));
  const message = { role: 'assistant', content: null, refusal: null, tool_calls };
  return { ...rest, choices: [{ ...choices[0], message, finish_reason: 'tool_calls' }] };
};

const chunk = (choices: object[], extra: object = {}) => ({
  id: 'chatcmpl-up',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'gpt-5-mini-2025-08-07',
  choices,
  ...extra,
});

/** The words as chunks of a stream, without its end. */
export const openaiDeltas = (words: readonly string[]): string[] =>
  sse(...words.map((content) => chunk([{ index: 0, delta: { content }, finish_reason: null }])));

/** A whole stream. */
export const openaiStream = (words: readonly string[]): string[] => [
  ...openaiDeltas(words),
  ...sse(
    chunk([{ index: 0, delta: {}, finish_reason: 'stop' }]),
    chunk([], { usage: { prompt_tokens: 10, completion_tokens: words.length, total_tokens: 10 + words.length } }),
    '[DONE]',
  ),
];

export const anthropicError = (status: number, type: string, message = type) => ({
  status,
  body: { type: 'error', error: { type, message } },
});
