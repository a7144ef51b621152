import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { toolCallsFor } from './tool-calls.ts';

// An OpenAI-compatible upstream whose first path segment says how fast it is: `/instant`, `/slow` (300 ms before the first
// byte) or `/paced` (200 tokens at 50 a second, streams only). It calls the tools it is given. Prints its port.

const SLOW_MS = 300;
const TOKENS = 200;
const TOKENS_PER_SECOND = 50;

const about = { id: 'chatcmpl-bench', created: 1, model: 'gpt-5-mini' };
const usage = { prompt_tokens: 9, completion_tokens: 9, total_tokens: 18 };
const words = ['Hello!', ' How', ' can', ' I', ' help', ' you', ' today', '?'];

const completionOf = (message: object, finish_reason: string): Buffer =>
  Buffer.from(
    JSON.stringify({
      ...about,
      object: 'chat.completion',
      choices: [{ index: 0, message: { role: 'assistant', ...message }, finish_reason }],
      usage,
    }),
  );
const answer = completionOf({ content: words.join('') }, 'stop');

const chunk = (choices: readonly object[], more: object = {}): string =>
  `data: ${JSON.stringify({ ...about, object: 'chat.completion.chunk', choices, ...more })}\n\n`;
const token = (content: string): string => chunk([{ index: 0, delta: { content }, finish_reason: null }]);
const END = `${chunk([{ index: 0, delta: {}, finish_reason: 'stop' }])}${chunk([], { usage })}data: [DONE]\n\n`;

async function stream(response: ServerResponse, paced: boolean): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  if (!paced) {
    response.end(words.map(token).join('') + END);
    return;
  }
  const started = performance.now();
  for (let i = 0; i < TOKENS && !response.destroyed; i += 1) {
    // By the clock, so that a late timer does not make the stream slower.
    await sleep(Math.max(0, started + (i * 1000) / TOKENS_PER_SECOND - performance.now()));
    // What it was sent at, for readers in the same machine to compare with.
    response.write(token(` ${(performance.timeOrigin + performance.now()).toFixed(1)}`));
  }
  response.end(END);
}

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.once('end', async () => {
    const [, speed] = request.url?.split('/') ?? [];
    if (speed === 'slow') await sleep(SLOW_MS);
    const body = Buffer.concat(parts).toString();
    if (body.includes('"stream":true')) return stream(response, speed === 'paced');
    const tool_calls = toolCallsFor(body);
    const completion = tool_calls.length > 0 ? completionOf({ content: null, tool_calls }, 'tool_calls') : answer;
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': completion.length });
    response.end(completion);
  });
});
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
