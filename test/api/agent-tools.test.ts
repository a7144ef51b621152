import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Agency, askedAs, echo, lastMessage } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion, openaiToolCalls } from '../support/shapes.ts';

const upstream = new FixtureServer();
const outside = new FixtureServer();
let gateway: TestGateway;
let agency: Agency;
beforeAll(async () => {
  await upstream.start();
  await outside.start();
  gateway = await startGateway(
    `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 1 }
agents: { allowed_private_hosts: [127.0.0.1] }
`,
    'configured',
  );
  agency = new Agency(gateway);
  await agency.agents('a');
});
afterAll(async () => {
  await gateway.stop();
  await upstream.stop();
  await outside.stop();
});
beforeEach(() => {
  upstream.reset();
  outside.reset();
  upstream.reply = echo;
});

const results = ({ body }: { readonly body: Json }): readonly string[] =>
  body.messages.filter(({ role }: Json) => role === 'tool').map(({ content }: Json) => content);

describe('an agent with tools', () => {
  const look = {
    type: 'http',
    name: 'look',
    method: 'GET',
    url: '',
    parameters: {
      type: 'object',
      properties: { what: { type: 'string' }, n: { type: 'integer' } },
      required: ['what'],
    },
    headers: { authorization: 'Bearer secret-of-the-tool' },
    max_attempts: 3,
  };
  /** Registers it, and has the model make `calls` at once and then tell what came of them. */
  const withCalls = async (calls: readonly (readonly [string, object])[], tool: object = {}): Promise<Json> => {
    await agency.agent('tooled', { tools: [{ ...look, url: `${outside.url}/look/{what}`, ...tool }] });
    upstream.reply = (request) => {
      const said = results(request);
      if (said.length === 0) return { body: openaiToolCalls(...calls) };
      return { body: openaiCompletion(said.join(' + ')) };
    };
    return agency.run({ pattern: 'single', agent: 'tooled' });
  };

  it('makes the calls that the model asks for, and tells it what came of them', async () => {
    outside.reply = ({ path }) => ({ body: { path } });
    const ended = await withCalls([
      ['look', { what: 'here & there', n: 1 }],
      ['look', { what: '..%2f', n: 2 }],
    ]);
    expect(ended.output).toBe('{"path":"/look/here & there?n=1"} + {"path":"/look/..%2f?n=2"}');
    expect(outside.last.headers.authorization).toBe('Bearer secret-of-the-tool');
    expect(upstream.received[0]?.body.tools).toEqual([
      { type: 'function', function: { name: 'look', parameters: look.parameters } },
    ]);
    const roles = upstream.last.body.messages.map(({ role }: Json) => role);
    expect(roles).toEqual(['system', 'user', 'assistant', 'tool', 'tool']);
  });

  it('repeats a request that may be answered otherwise, under the same key', async () => {
    outside.reply = () => (outside.received.length < 2 ? { status: 503 } : { body: { ok: true } });
    const ended = await withCalls([['look', { what: 'x' }]]);
    expect(ended.output).toBe('{"ok":true}');
    const keys = outside.received.map(({ headers }) => headers['idempotency-key']);
    expect(keys).toEqual([`${ended.id}.tooled.1.1`, `${ended.id}.tooled.1.1`]);
  });

  it.each([
    ['an error of the tool', [['look', { what: 'x' }]], 'HTTP 404: {"error":"no such thing"}'],
    ['arguments that are not right', [['look', { what: 5 }]], 'The call was not made. arguments/what must be string'],
    ['a tool that there is not', [['fly', {}]], "There is no tool 'fly'."],
  ] as const)('is told of %s', async (_, calls, said) => {
    outside.reply = () => ({ status: 404, body: { error: 'no such thing' } });
    expect((await withCalls(calls)).output).toBe(said);
  });

  it('is told when a tool cannot be reached', async () => {
    const ended = await withCalls([['look', { what: 'x' }]], { url: 'http://127.0.0.1:9/{what}', max_attempts: 1 });
    expect(ended.output).toBe('The tool did not answer (ECONNREFUSED).');
  });

  it('is shown the beginning of a large result; the history holds a reference', async () => {
    const text = 'x'.repeat(200_000);
    outside.reply = () => ({ body: { text } });
    const ended = await withCalls([['look', { what: 'x' }]]);
    expect(ended.output.length).toBeLessThan(70_000);
    expect(ended.output).toContain('[The result has 200011 characters; these are the first 65536.]');
  });

  it('makes each call, also where the server gives them the same id', async () => {
    outside.reply = ({ path }) => ({ body: { path } });
    await agency.agent('tooled', { tools: [{ ...look, url: `${outside.url}/look/{what}` }] });
    upstream.reply = (request) => {
      const said = results(request);
      if (said.length > 0) return { body: openaiCompletion(said.join(' + ')) };
      const answer = openaiToolCalls(['look', { what: 'a' }], ['look', { what: 'b' }]);
      for (const call of answer.choices[0]?.message.tool_calls ?? []) call.id = 'same';
      return { body: answer };
    };
    const ended = await agency.run({ pattern: 'single', agent: 'tooled' });
    expect(ended.output).toBe('{"path":"/look/a"} + {"path":"/look/b"}');
  });

  it('does nothing in its last turn, even if the model asks for it', async () => {
    await agency.agent('last', { tools: [{ ...look, url: `${outside.url}/look/{what}` }], limits: { max_turns: 1 } });
    upstream.reply = () => ({ body: openaiToolCalls(['look', { what: 'x' }]) });
    const ended = await agency.run({ pattern: 'single', agent: 'last' });
    expect(ended).toMatchObject({ status: 'failed', error: { code: 'turn_limit' } });
    expect(outside.received).toEqual([]);
  });

  it('has to answer when its turns are used up', async () => {
    await agency.agent('endless', {
      tools: [{ ...look, url: `${outside.url}/look/{what}` }],
      limits: { max_turns: 3 },
    });
    outside.reply = () => ({ body: {} });
    upstream.reply = ({ body }) =>
      body.tool_choice === 'none'
        ? { body: openaiCompletion('So be it.') }
        : { body: openaiToolCalls(['look', { what: 'x' }]) };
    expect(await agency.run({ pattern: 'single', agent: 'endless' })).toMatchObject({ output: 'So be it.' });
    expect(upstream.received).toHaveLength(3);
  });
});

describe('an agent with an output schema', () => {
  const output_schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] };

  it('answers again until it follows it', async () => {
    await agency.agent('strict', { output_schema });
    const answers = ['not JSON', '{"ok":"yes"}', '{"ok":true}'];
    upstream.reply = () => ({ body: openaiCompletion(answers[upstream.received.length - 1] ?? '') });
    expect(await agency.run({ pattern: 'single', agent: 'strict' })).toMatchObject({ output: '{"ok":true}' });
    expect(upstream.received[0]?.body.response_format.json_schema.schema).toEqual(output_schema);
    expect(upstream.received.slice(1).map(lastMessage)).toEqual([
      'Your answer has to be JSON and nothing else. Answer again.',
      'Your answer does not follow its schema: answer/ok must be boolean. Answer again.',
    ]);
  });

  it('fails when it never does', async () => {
    await agency.agent('strict', { output_schema, limits: { max_turns: 2 } });
    upstream.reply = () => ({ body: openaiCompletion('no') });
    const ended = await agency.run({ pattern: 'single', agent: 'strict' });
    expect(ended).toMatchObject({ status: 'failed', error: { code: 'turn_limit' } });
    expect(upstream.received).toHaveLength(2);
  });
});

describe('a remote agent', () => {
  const remote = (name: string, rest: object = {}) =>
    agency.post('/agents/register', { name, kind: 'remote', url: `${outside.url}/${name}`, ...rest });

  it('is asked over HTTP, once more where that may help, under the same key', async () => {
    await remote('far', { headers: { authorization: 'Bearer theirs' } });
    outside.reply = ({ body }) =>
      outside.received.length < 2 ? { status: 502 } : { body: { output: `far(${body.input})` } };
    const ended = await agency.run({
      pattern: 'sequential',
      steps: ['a', 'far'].map((agent) => ({ pattern: 'single', agent })),
    });
    expect(ended).toMatchObject({ status: 'completed', output: 'far(a(the input))' });
    expect(outside.last).toMatchObject({
      path: '/far',
      headers: { authorization: 'Bearer theirs', 'idempotency-key': `${ended.id}.far` },
      body: { run_id: ended.id, step: 'far', input: 'a(the input)', messages: [] },
    });
    expect(outside.received).toHaveLength(2);
  });

  it('fails its step when it refuses', async () => {
    await remote('far');
    outside.reply = () => ({ status: 403, body: { error: 'secret details' } });
    const ended = await agency.run({ pattern: 'single', agent: 'far' });
    expect(ended).toMatchObject({ status: 'failed', error: { message: 'The agent answered HTTP 403.' } });
    expect(outside.received).toHaveLength(1);
  });

  it('is chosen by capability: the healthy one with least to do', async () => {
    const capabilities = [crypto.randomUUID()];
    outside.reply = ({ path }) => ({ body: { output: path } });
    const busy = await remote('busy', { capabilities, heartbeat_seconds: 60 });
    await agency.post(`/agents/${busy.id}/heartbeat`, { load: 5 });
    const idle = await remote('idle', { capabilities, heartbeat_seconds: 60 });
    await agency.post(`/agents/${idle.id}/heartbeat`, { load: 1 });
    const step = { pattern: 'single', agent: { capability: capabilities[0] } };
    expect(await agency.run(step)).toMatchObject({ output: '/idle', steps: [{ agent: 'idle' }] });
    await gateway.fetch(`/agents/${idle.id}`, { method: 'DELETE' });
    expect(await agency.run(step)).toMatchObject({ output: '/busy' });
  });

  it('that is not there yet is waited for', async () => {
    const capability = crypto.randomUUID();
    outside.reply = () => ({ body: { output: 'here I am' } });
    const { id } = await agency.start({ pattern: 'single', agent: { capability } });
    await agency.until(id, 'running');
    await remote('late', { capabilities: [capability] });
    expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'here I am' });
  });
});

describe('messages', () => {
  it('reach an agent of a workflow at its next turn, and stay in its inbox', async () => {
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    upstream.reply = (request) => (askedAs(request) === 'a' ? { ...echo(request), until } : echo(request));
    const recipient = `reader-${crypto.randomUUID().slice(0, 8)}`;
    await agency.agent(recipient);
    const { id } = await agency.start({
      pattern: 'sequential',
      steps: ['a', recipient].map((agent) => ({ pattern: 'single', agent })),
    });
    await eventually(async () => upstream.received.length === 1);
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const json = { to: recipient, from: 'a', content: 'mind the gap', workflow_id: id };
    const sent = await gateway.json('/messages', { json, headers });
    expect(await gateway.json('/messages', { json, headers })).toEqual(sent);
    expect(sent).toMatchObject({ object: 'message', from: 'a', to: recipient, delivered_at: null });
    release();
    await agency.ended(id);
    expect(upstream.last.body.messages.slice(1)).toEqual([
      { role: 'user', content: 'a(the input)' },
      { role: 'user', content: 'Message from a: mind the gap' },
    ]);
    const { data } = await gateway.json(`/messages?to=${recipient}`);
    expect(data).toMatchObject([{ id: sent.id, content: 'mind the gap', workflow_id: id }]);
    expect(data[0].delivered_at).not.toBeNull();
    const other = await gateway.json('/messages', { json: { ...json, content: 'other' }, headers });
    expect(other).toMatchObject({ error: { code: 'conflict' } });
    const late = await agency.post('/messages', json);
    expect(late).toMatchObject({ error: { code: 'conflict' } });
  });

  it('are read by those of the same team only', async () => {
    const key = (await gateway.json('/config/virtual-keys', { json: { name: 'k', team: crypto.randomUUID() } })).key;
    const to = crypto.randomUUID();
    await agency.post('/messages', { to, content: 'for us' });
    expect((await gateway.json(`/messages?to=${to}`)).data).toHaveLength(1);
    expect((await gateway.json(`/messages?to=${to}`, { key })).data).toHaveLength(0);
  });
});
