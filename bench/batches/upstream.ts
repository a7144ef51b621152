import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

// An upstream that takes 50 ms and overloads, refuses or breaks off at one call in twenty. Prints its port; GET tells
// how often it was called.

const DELAY_MS = 50;
const FAULTS = ['overloaded', 'refused', 'broken'] as const;
const FAULT_EVERY = 20;

let calls = 0;
let faults = 0;

const answer = (content: string) =>
  JSON.stringify({
    id: 'chatcmpl-bench',
    object: 'chat.completion',
    created: 1,
    model: 'gpt-5-mini',
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
    usage: { prompt_tokens: 9, completion_tokens: 9, total_tokens: 18 },
  });

const server = createServer((request, response) => {
  if (request.method === 'GET') return void response.end(JSON.stringify({ calls, faults }));
  request.resume();
  request.once('end', () => {
    calls += 1;
    const fault = calls % FAULT_EVERY === 0 ? FAULTS[(calls / FAULT_EVERY) % FAULTS.length] : undefined;
    if (fault) faults += 1;
    setTimeout(() => {
      if (fault === 'broken') return void response.destroy();
      const status = fault === 'overloaded' ? 503 : fault === 'refused' ? 400 : 200;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(status === 200 ? answer('Hello!') : JSON.stringify({ error: { message: fault } }));
    }, DELAY_MS);
  });
});
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
