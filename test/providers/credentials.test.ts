import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ProviderAdapter } from '../../providers/adapter.ts';
import { type Credential, hintOf, parseCredential } from '../../providers/credentials.ts';
import { adapterOf, call, collect, request } from '../support/adapters.ts';
import { FixtureServer, type Received, sse } from '../support/fixture-server.ts';

const AWS_KEY = { accessKeyId: 'AKIASTOREDKEY00001', secretAccessKey: 'stored+secret/key' };

describe('a stored key', () => {
  it.each([
    ['openai', 'sk-any/thing:at=all', { apiKey: 'sk-any/thing:at=all' }],
    ['bedrock', 'AKIASTOREDKEY00001:stored+secret/key', AWS_KEY],
    ['bedrock', 'AKIASTOREDKEY00001:stored+secret/key:token==', { ...AWS_KEY, sessionToken: 'token==' }],
    ['bedrock', JSON.stringify({ ...AWS_KEY, sessionToken: 't' }), { ...AWS_KEY, sessionToken: 't' }],
  ] as const)('of %s is read from %s', (type, secret, credential) => {
    expect(parseCredential(type, secret)).toEqual(credential);
  });

  it.each([
    ['openai', 'two words'],
    ['anthropic', 'sk-ünicode'],
    ['openai', 'line\nbreak'],
    ['bedrock', 'AKIASTOREDKEY00001'],
    ['bedrock', '{"accessKeyId":"AKIA"}'],
    ['bedrock', '{broken'],
  ] as const)('of %s is not %j', (type, secret) => {
    expect(parseCredential(type, secret)).toBeUndefined();
  });

  it('is recognised by its last characters, if it is long enough, and never by a secret one’s', () => {
    expect(hintOf({ apiKey: 'sk-0123456789abcd' })).toBe('abcd');
    expect(hintOf({ apiKey: 'short-key' })).toBe('');
    expect(hintOf(AWS_KEY)).toBe('0001');
  });
});

const server = new FixtureServer();
beforeAll(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIACONFIGURED0001');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'configured');
  await server.start();
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await server.stop();
});
beforeEach(() => server.reset());

const adapters = (): [string, ProviderAdapter, Credential, string, string][] => [
  [
    'openai',
    adapterOf({ type: 'openai', base_url: `${server.url}/v1`, api_key: 'plain-configured-key' }),
    { apiKey: 'plain-stored-key' },
    'plain-configured-key',
    'plain-stored-key',
  ],
  [
    'anthropic',
    adapterOf({ type: 'anthropic', base_url: server.url, api_key: 'plain-configured-key' }),
    { apiKey: 'plain-stored-key' },
    'plain-configured-key',
    'plain-stored-key',
  ],
  [
    'bedrock',
    adapterOf({ type: 'bedrock', region: 'eu-west-1', endpoint: server.url }),
    AWS_KEY,
    'AKIACONFIGURED0001',
    AWS_KEY.accessKeyId,
  ],
];
const shownIn = ({ headers }: Received) => `${headers.authorization} ${headers['x-api-key']}`;

describe.each(['openai', 'anthropic', 'bedrock'])('a call to %s', (name) => {
  const setup = () => {
    const found = adapters().find(([type]) => type === name);
    if (!found) throw new Error(name);
    const [, adapter, credential, configured, stored] = found;
    return { adapter, credential, configured, stored };
  };

  it('is made with its own key, and the next one without with the configured', async () => {
    const { adapter, credential, configured, stored } = setup();
    for (const run of [
      (key?: Credential) => adapter.complete(request(), call({ credential: key })),
      (key?: Credential) => collect(adapter.stream(request(), call({ credential: key }))),
    ]) {
      await run(credential).catch(() => {});
      expect(shownIn(server.last)).toContain(stored);
      expect(shownIn(server.last)).not.toContain(configured);
      await run().catch(() => {});
      expect(shownIn(server.last)).toContain(configured);
      expect(shownIn(server.last)).not.toContain(stored);
    }
  });

  it('shows neither key when the provider’s message does, whatever they look like', async () => {
    const { adapter, credential } = setup();
    const secrets = 'apiKey' in credential ? [credential.apiKey, 'plain-configured-key'] : Object.values(credential);
    for (const status of [400, 401, 403, 404, 429, 500]) {
      const message = `No: ${secrets.join(' and ')}!`;
      server.reply = () => ({ status, body: { message, error: { type: 'x', message, param: secrets[0] } } });
      const error = await adapter.complete(request(), call({ credential })).catch((thrown: Error) => thrown);
      const shown = JSON.stringify({ ...(error as Error), message: (error as Error).message });
      for (const secret of secrets) expect(shown).not.toContain(secret);
      expect((error as Error).cause).toBeUndefined();
    }
  });
});

it('an error inside a stream does not show the key either', async () => {
  const adapter = adapterOf({ type: 'openai', base_url: `${server.url}/v1` });
  server.reply = () => ({ chunks: sse({ error: { code: 'server_error', message: 'bad plain-stored-key' } }) });
  const streaming = collect(adapter.stream(request(), call({ credential: { apiKey: 'plain-stored-key' } })));
  await expect(streaming).rejects.toMatchObject({ message: 'it: bad [redacted]' });
});

it('a probe is made with the key it is given', async () => {
  const adapter = adapterOf({ type: 'openai', base_url: `${server.url}/v1`, api_key: 'stored' });
  server.reply = () => ({ body: { object: 'list', data: [] } });
  await adapter.probe(new AbortController().signal, { apiKey: 'plain-stored-key' });
  expect(server.last.headers.authorization).toBe('Bearer plain-stored-key');
  expect(adapter.storedKeysOnly).toBe(true);
});

it.each([
  'API key not valid. Please pass a valid API key.',
  'Incorrect API key provided: xa***key. You can obtain an API key from https://console.x.ai.',
])('a 400 that says "%s" is about the key', async (message) => {
  const adapter = adapterOf({ type: 'openai', base_url: `${server.url}/v1` });
  server.reply = () => ({ status: 400, body: { error: { message, code: 400 } } });
  await expect(adapter.complete(request(), call())).rejects.toMatchObject({ code: 'provider_auth' });
});

it('a 400 that quotes such words from the request is not', async () => {
  const adapter = adapterOf({ type: 'openai', base_url: `${server.url}/v1` });
  const message = "Invalid value: 'api key not valid'. Supported values are: 'auto'.";
  server.reply = () => ({ status: 400, body: { error: { message } } });
  await expect(adapter.complete(request(), call())).rejects.toMatchObject({ code: 'provider_invalid_request' });
});
