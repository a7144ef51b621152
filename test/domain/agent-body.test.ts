import { describe, expect, it } from 'vitest';
import { agentBody, toAgentDefinition } from '../../domain/agent-body.ts';
import { DEFAULT_APPROVAL_TERMS } from '../../domain/approval.ts';
import { validated } from '../../domain/validation.ts';

const PROMPT = { name: 'researcher', kind: 'prompt', model: 'smart', instructions: 'Find it out.' };
const REMOTE = { name: 'theirs', kind: 'remote', url: 'https://agent.example/run' };
const TOOL = { type: 'http', name: 'weather', url: 'https://api.example/weather' };

const define = (body: unknown) => toAgentDefinition(validated(agentBody, body));
const problem = (body: unknown): { param: string; message: string } => {
  try {
    define(body);
  } catch (error) {
    expect(error).toMatchObject({ code: 'caller_invalid_request' });
    const { param, message } = error as { param: string; message: string };
    return { param, message };
  }
  throw new Error('the body was accepted');
};
const withTool = (tool: object) => ({ ...PROMPT, tools: [{ ...TOOL, ...tool }] });
const city = { type: 'object', properties: { city: { type: 'string' } } };

describe('an agent of the gateway', () => {
  it('needs no more than a name, a model and instructions', () => {
    expect(define(PROMPT)).toEqual({
      kind: 'prompt',
      model: 'smart',
      instructions: 'Find it out.',
      tools: [],
      parameters: {},
      limits: { maxTurns: 20 },
    });
    expect(agentBody.parse(PROMPT)).toMatchObject({ description: '', capabilities: [] });
  });

  it('has its limits in turns and nano-dollars', () => {
    const limits = { max_turns: 5, approve_over_usd: 0.25 };
    expect(define({ ...PROMPT, limits })).toMatchObject({ limits: { maxTurns: 5, approveOverNanos: 250_000_000 } });
  });

  it('keeps its schema and the parameters of its calls', () => {
    const parameters = { temperature: 0.5, max_tokens: 100, stop: ['x'], reasoning_effort: 'low' };
    expect(define({ ...PROMPT, output_schema: city, parameters })).toMatchObject({ outputSchema: city, parameters });
  });

  it.each<[string, object, string]>([
    ['without a model', { ...PROMPT, model: undefined }, 'model'],
    ['without a kind', { ...PROMPT, kind: undefined }, 'kind'],
    ['with a name of other characters', { ...PROMPT, name: 'a b' }, 'name'],
    ['with a name that begins with a hyphen', { ...PROMPT, name: '-a' }, 'name'],
    ['with NUL in what is stored as text', { ...PROMPT, capabilities: ['a\0b'] }, 'capabilities[0]'],
    ['with an unknown field', { ...PROMPT, url: 'https://agent.example' }, 'url'],
    ['with messages among its parameters', { ...PROMPT, parameters: { messages: [] } }, 'parameters.messages'],
    ['with a parameter out of range', { ...PROMPT, parameters: { temperature: 3 } }, 'parameters.temperature'],
    ['with no turns', { ...PROMPT, limits: { max_turns: 0 } }, 'limits.max_turns'],
    ['with an endless schema', { ...PROMPT, output_schema: { description: 'x'.repeat(70_000) } }, 'output_schema'],
  ])('cannot be %s', (_name, body, param) => {
    expect(problem(body).param).toBe(param);
  });
});

describe('an agent of somebody else', () => {
  it('is asked within a minute, three times at most', () => {
    expect(define(REMOTE)).toEqual({
      kind: 'remote',
      url: 'https://agent.example/run',
      headers: {},
      timeoutMs: 60_000,
      maxAttempts: 3,
    });
  });

  it('gets its headers, each in one spelling', () => {
    const headers = { Authorization: 'Bearer a', 'X-Tenant': 'b' };
    expect(define({ ...REMOTE, headers, timeout: 3_600, max_attempts: 10 })).toMatchObject({
      headers: { authorization: 'Bearer a', 'x-tenant': 'b' },
      timeoutMs: 3_600_000,
      maxAttempts: 10,
    });
  });

  it.each<[string, object, string]>([
    ['without a URL', { ...REMOTE, url: undefined }, 'url'],
    ['at no URL', { ...REMOTE, url: 'there' }, 'url'],
    ['with a header of two lines', { ...REMOTE, headers: { a: 'b\r\nc: d' } }, 'headers.a'],
    [
      'with a header that frames the message',
      { ...REMOTE, headers: { 'Content-Length': '1' } },
      'headers.Content-Length',
    ],
    ['with another host’s name', { ...REMOTE, headers: { Host: 'internal' } }, 'headers.Host'],
    ['that takes more than an hour', { ...REMOTE, timeout: 3_601 }, 'timeout'],
    ['that reports all the time', { ...REMOTE, heartbeat_seconds: 4 }, 'heartbeat_seconds'],
    ['with instructions', { ...REMOTE, instructions: 'Do it.' }, 'instructions'],
  ])('cannot be %s', (_name, body, param) => {
    expect(problem(body).param).toBe(param);
  });
});

describe('an HTTP tool', () => {
  const toolOf = (tool: object) => {
    const definition = define(withTool(tool));
    return definition.kind === 'prompt' && definition.tools[0];
  };

  it('posts, three times at most, within 30 seconds, and asks nobody', () => {
    expect(toolOf({})).toEqual({
      type: 'http',
      name: 'weather',
      parameters: { type: 'object', properties: {} },
      method: 'POST',
      url: 'https://api.example/weather',
      places: {},
      headers: {},
      timeoutMs: 30_000,
      maxAttempts: 3,
    });
  });

  it('has somebody agree, by the defaults or by terms of its own', () => {
    expect(toolOf({ requires_approval: true })).toMatchObject({ approval: DEFAULT_APPROVAL_TERMS });
    expect(toolOf({ requires_approval: { timeout: 60 } })).toMatchObject({ approval: { timeoutMs: 60_000 } });
    expect(toolOf({ requires_approval: false })).not.toHaveProperty('approval');
  });

  it('takes arguments in its URL’s path and query, and elsewhere by their places', () => {
    const parameters = { type: 'object', properties: { city: {}, unit: {}, trace: {} } };
    const url = 'https://api.example/{city}/weather?unit={unit}';
    expect(toolOf({ parameters, url, places: { trace: 'header' } })).toMatchObject({
      url,
      places: { trace: 'header' },
    });
  });

  it.each<[string, object, string]>([
    ['at an address that a model could choose', { url: 'https://{city}.example/', parameters: city }, 'tools[0].url'],
    ['at a port that a model could choose', { url: 'https://a.example:{city}/', parameters: city }, 'tools[0].url'],
    ['with a password in its URL', { url: 'https://a:b@api.example/' }, 'tools[0].url'],
    ['without HTTP', { url: 'ftp://api.example/' }, 'tools[0].url'],
    ['with a name that models do not take', { name: 'wetter in köln' }, 'tools[0].name'],
    ['with parameters that are no object', { parameters: { type: 'string' } }, 'tools[0].parameters'],
    ['with terms that make no sense', { requires_approval: { timeout: 0 } }, 'tools[0].requires_approval.timeout'],
    ['that takes more than ten minutes', { timeout: 601 }, 'tools[0].timeout'],
    ['of an unknown type', { type: 'shell' }, 'tools[0].type'],
  ])('cannot be one %s', (_name, tool, param) => {
    expect(problem(withTool(tool)).param).toBe(param);
  });

  it.each<[string, object, string]>([
    ['its URL names an argument that there is not', { url: 'https://api.example/{town}', parameters: city }, "'town'"],
    ['a place is of an argument that there is not', { places: { town: 'query' }, parameters: city }, "'town'"],
    ['the path of an argument is not in its URL', { places: { city: 'path' }, parameters: city }, "'path'"],
    [
      'what is in its URL goes elsewhere',
      { url: `${TOOL.url}/{city}`, places: { city: 'query' }, parameters: city },
      "'path'",
    ],
    ['a GET would have a body', { method: 'GET', places: { city: 'body' }, parameters: city }, 'GET'],
    [
      'an argument would frame the message',
      { places: { host: 'header' }, parameters: { type: 'object', properties: { host: {} } } },
      "'host'",
    ],
    [
      'there is something beside a whole body',
      { places: { a: 'whole_body', b: 'body' }, parameters: { type: 'object', properties: { a: {}, b: {} } } },
      'whole body',
    ],
  ])('cannot be used when %s', (_name, tool, told) => {
    expect(problem(withTool(tool))).toEqual({
      param: 'tools[0]',
      message: expect.stringMatching(new RegExp(`^The tool 'weather' cannot be used: .*${told}`)),
    });
  });

  it('has a name of its own within its agent', () => {
    expect(problem({ ...PROMPT, tools: [TOOL, { ...TOOL, name: 'news' }, TOOL] })).toEqual({
      param: 'tools',
      message: "An agent's tools need names of their own: two are called 'weather'.",
    });
  });
});
