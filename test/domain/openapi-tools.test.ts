import { describe, expect, it } from 'vitest';
import { toHttpTools, toolBody } from '../../domain/tool-body.ts';

interface Wanted {
  readonly [field: string]: unknown;
}

const SERVERS = [{ url: 'https://api.example/v1/' }];
const documentOf = (paths: object, more: object = {}) => ({ openapi: '3.1.0', servers: SERVERS, paths, ...more });
const toolsOf = (spec: object, wanted: Wanted = {}) =>
  toHttpTools(toolBody.parse({ type: 'openapi', spec, ...wanted }), 'tools[2]');
const problem = (spec: object, wanted?: Wanted): string => {
  try {
    toolsOf(spec, wanted);
  } catch (error) {
    expect(error).toMatchObject({ code: 'caller_invalid_request', param: 'tools[2].spec' });
    return (error as Error).message;
  }
  throw new Error('the document was accepted');
};
const jsonBody = (schema: object, more: object = {}) => ({
  requestBody: { content: { 'application/json': { schema } }, ...more },
});
const post = (operation: object, more?: object) => documentOf({ '/pets': { post: operation } }, more);
const parametersOf = (spec: object) => toolsOf(spec)[0]?.parameters as { properties: object; $defs?: object };

describe('an OpenAPI document', () => {
  it('makes a tool of each operation', () => {
    const spec = documentOf({
      '/pets/{petId}': {
        parameters: [{ in: 'path', name: 'petId', schema: { type: 'string' } }],
        get: { operationId: 'getPet', summary: 'One pet', description: 'With its owner.' },
        put: {
          operationId: 'putPet',
          parameters: [
            { in: 'query', name: 'dry', description: 'Only checks.', schema: { type: 'boolean' } },
            { in: 'header', name: 'X-Reason', required: true, schema: { type: 'string' } },
            { in: 'header', name: 'Authorization', required: true, schema: { type: 'string' } },
          ],
          ...jsonBody({ type: 'object', properties: { name: { type: 'string' }, age: {} }, required: ['name'] }),
        },
      },
    });
    const headers = { Authorization: 'Bearer a' };
    const [get, put, ...others] = toolsOf(spec, { headers, timeout: 5, max_attempts: 1, requires_approval: true });
    expect(others).toEqual([]);
    expect(get).toMatchObject({
      type: 'http',
      name: 'getPet',
      description: 'One pet\n\nWith its owner.',
      method: 'GET',
      url: 'https://api.example/v1/pets/{petId}',
      parameters: { type: 'object', properties: { petId: { type: 'string' } }, required: ['petId'] },
      places: { petId: 'path' },
      headers: { authorization: 'Bearer a' },
      timeoutMs: 5_000,
      maxAttempts: 1,
      approval: { onTimeout: 'reject' },
    });
    expect(put).toMatchObject({
      name: 'putPet',
      method: 'PUT',
      places: { petId: 'path', dry: 'query', 'X-Reason': 'header', name: 'body', age: 'body' },
    });
    expect(put?.parameters).toEqual({
      type: 'object',
      properties: {
        petId: { type: 'string' },
        dry: { type: 'boolean', description: 'Only checks.' },
        'X-Reason': { type: 'string' },
        name: { type: 'string' },
        age: {},
      },
      required: ['petId', 'X-Reason', 'name'],
      additionalProperties: false,
    });
  });

  it('makes tools of the operations asked for only, and says which there is not', () => {
    const spec = documentOf({ '/a': { get: { operationId: 'a' }, post: { operationId: 'b' } } });
    expect(toolsOf(spec, { operations: ['b'] }).map(({ name }) => name)).toEqual(['b']);
    expect(problem(spec, { operations: ['a', 'c'] })).toContain("no operation 'c'");
  });

  it('gives names that models take', () => {
    const spec = documentOf(
      { '/pets/{id}/toys': { parameters: [{ $ref: '#/components/parameters/id' }], get: {} } },
      {
        components: { parameters: { id: { in: 'path', name: 'id', schema: {} } } },
      },
    );
    expect(toolsOf(spec).map(({ name }) => name)).toEqual(['GET_pets_id_toys']);
    expect(toolsOf(post({ operationId: `pets.créer:${'x'.repeat(80)}` }))[0]?.name).toMatch(/^pets_cr_er_x{53}$/);
  });

  it('lets an operation’s parameters win over its path’s', () => {
    const spec = documentOf({
      '/a': {
        parameters: [{ in: 'query', name: 'q', schema: { type: 'string' } }],
        get: { parameters: [{ in: 'query', name: 'q', schema: { type: 'integer' } }] },
      },
    });
    expect(parametersOf(spec).properties).toEqual({ q: { type: 'integer' } });
  });

  it('takes a body that is no object of known properties as one argument', () => {
    for (const schema of [
      { type: 'array', items: { type: 'string' } },
      { type: 'object', additionalProperties: { type: 'string' } },
      { allOf: [{ type: 'object', properties: { a: {} } }] },
    ]) {
      const [tool] = toolsOf(post(jsonBody(schema, { required: true })));
      expect(tool?.places).toEqual({ body: 'whole_body' });
      expect(tool?.parameters).toMatchObject({ properties: { body: schema }, required: ['body'] });
    }
  });

  it('takes a body whose properties are named as parameters are as one argument', () => {
    const schema = { type: 'object', properties: { id: { type: 'integer' } } };
    const [tool] = toolsOf(post({ parameters: [{ in: 'query', name: 'id', schema: {} }], ...jsonBody(schema) }));
    expect(tool?.places).toEqual({ id: 'query', body: 'whole_body' });
    expect(tool?.parameters).toMatchObject({ properties: { id: {}, body: schema } });
  });

  it('keeps what schemas refer to once, also what refers to itself', () => {
    const pet = {
      type: 'object',
      properties: { name: { type: 'string' }, parent: { $ref: '#/components/schemas/Pet' } },
    };
    const other = { type: 'string' };
    const components = { schemas: { Pet: pet, Unused: {} }, 'x-other': { Pet: other } };
    const body = {
      type: 'object',
      properties: { a: { $ref: '#/components/schemas/Pet' }, b: { $ref: '#/components/x-other/Pet' } },
    };
    expect(parametersOf(post(jsonBody(body), { components }))).toMatchObject({
      properties: { a: { $ref: '#/$defs/Pet' }, b: { $ref: '#/$defs/Pet_2' } },
      $defs: { Pet: { properties: { parent: { $ref: '#/$defs/Pet' } } }, Pet_2: other },
    });
    expect(Object.keys(parametersOf(post(jsonBody(body), { components })).$defs ?? {})).toEqual(['Pet', 'Pet_2']);
  });

  it('follows references to parameters, bodies and the body’s object', () => {
    const components = {
      parameters: { q: { in: 'query', name: 'q', schema: { type: 'string' } } },
      requestBodies: {
        a: { content: { 'application/json; charset=utf-8': { schema: { $ref: '#/components/schemas/A' } } } },
      },
      schemas: { A: { $ref: '#/components/schemas/B~1C' }, 'B/C': { type: 'object', properties: { n: {} } } },
    };
    const operation = {
      parameters: [{ $ref: '#/components/parameters/q' }],
      requestBody: { $ref: '#/components/requestBodies/a' },
    };
    expect(toolsOf(post(operation, { components }))[0]?.places).toEqual({ q: 'query', n: 'body' });
  });

  it('understands the limits that OpenAPI 3.0 excludes by a word', () => {
    const schema = {
      type: 'object',
      properties: { n: { type: 'number', minimum: 0, exclusiveMinimum: true, maximum: 5 } },
    };
    expect(parametersOf(post(jsonBody(schema))).properties).toEqual({
      n: { type: 'number', exclusiveMinimum: 0, maximum: 5 },
    });
  });

  it('is served by its first server, an operation’s own one, or the one that is asked for', () => {
    const variables = { region: { default: 'eu' } };
    const servers = [{ url: 'https://{region}.example', variables }, { url: 'https://other.example' }];
    const urlOf = (operation: object, wanted?: Wanted) => toolsOf(post(operation, { servers }), wanted)[0]?.url;
    expect(urlOf({})).toBe('https://eu.example/pets');
    expect(urlOf({ servers: [{ url: 'https://own.example/' }] })).toBe('https://own.example/pets');
    expect(urlOf({}, { base_url: 'https://mine.example/api/' })).toBe('https://mine.example/api/pets');
  });

  const ref = (to: string) => jsonBody({ type: 'object', properties: { a: { $ref: to } } });
  const deep = (levels: number): object => (levels === 0 ? {} : { items: deep(levels - 1) });
  const many = Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`/${i}`, { get: {} }]));
  it.each<[string, object, string]>([
    ['of another version', { swagger: '2.0', paths: {} }, 'not an OpenAPI 3 document'],
    ['without operations', documentOf({}), 'no operations'],
    ['with more operations than an agent has tools', documentOf(many), "'operations' chooses up to 128"],
    ['whose server is somewhere else', post({}, { servers: [{ url: '/v1' }] }), "'base_url'"],
    ['whose server has no URL', post({}, { servers: undefined }), "'base_url'"],
    ['that refers to another document', post(ref('https://evil.example/a.json#/A')), 'leads out of it'],
    ['that refers to a file', post(ref('common.json#/A')), 'leads out of it'],
    ['that refers to nothing', post(ref('#/components/schemas/None')), 'leads nowhere'],
    ['that refers to what all objects have', post(ref('#/constructor')), 'leads nowhere'],
    [
      'whose references lead in a circle',
      post({ requestBody: { $ref: '#/x' } }, { x: { $ref: '#/y' }, y: { $ref: '#/x' } }),
      'refers to itself',
    ],
    ['with endless schemas', post(jsonBody({ type: 'array', items: deep(200) })), 'nested too deeply'],
    ['that takes forms', post({ requestBody: { content: { 'multipart/form-data': {} } } }), 'application/json'],
    ['that needs a cookie', post({ parameters: [{ in: 'cookie', name: 's', required: true }] }), "'s' in 'cookie'"],
    [
      'with two parameters of a name',
      post({
        parameters: [
          { in: 'query', name: 'a' },
          { in: 'header', name: 'a' },
        ],
      }),
      "two arguments named 'a'",
    ],
    ['with an argument in its path that there is not', documentOf({ '/{a}': { get: {} } }), "'a' is not among"],
    [
      'whose path leads to another host',
      documentOf({ '@evil.example/': { get: {} } }, { servers: [{ url: 'https://api.example' }] }),
      'URL',
    ],
    ['with too much for a model', post(jsonBody({ type: 'array', description: 'x'.repeat(70_000) })), 'too large'],
  ])('cannot be one %s', (_name, spec, told) => {
    expect(problem(spec)).toContain(told);
  });

  it('ends soon, however much its references multiply', () => {
    const schemas = Object.fromEntries(
      Array.from({ length: 60 }, (_, i) => {
        const next = { $ref: `#/components/schemas/S${i + 1}` };
        return [`S${i}`, { type: 'object', properties: { a: next, b: next } }];
      }),
    );
    const components = { schemas: { ...schemas, S60: { type: 'string' } } };
    const { $defs } = parametersOf(
      post(jsonBody({ type: 'array', items: { $ref: '#/components/schemas/S0' } }), { components }),
    );
    expect(Object.keys($defs ?? {})).toHaveLength(61);
  });
});
