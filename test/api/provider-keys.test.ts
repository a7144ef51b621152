import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion, openaiStream } from '../support/shapes.ts';

const upstream = new FixtureServer();
/** Keys that the provider takes. */
const accepted = new Set<string>();
let gateway: TestGateway;
beforeAll(async () => {
  await upstream.start();
  gateway = await startGateway(
    `
providers:
  vault: { type: openai, base_url: "${upstream.url}/v1", api_key: stored, default_model: gpt-5-mini, vendor: openai }
  aws: { type: bedrock, region: eu-west-1, endpoint: "${upstream.url}", model_id: amazon.nova-pro-v1:0 }
fallback: { enabled: false }
retry: { retry_delay: 0.05 }
`,
    'configured',
  );
});
afterAll(async () => {
  await gateway.stop();
  await upstream.stop();
});
beforeEach(() => {
  accepted.clear();
  upstream.reset();
  upstream.reply = ({ headers, body }) => {
    const key = String(headers.authorization).replace('Bearer ', '');
    if (!accepted.has(key)) return { status: 401, body: { error: { message: `Incorrect API key: ${key}` } } };
    return body?.stream ? { chunks: openaiStream(['hi']) } : { body: openaiCompletion('hi') };
  };
});
afterEach(async () => {
  const { data } = await gateway.json('/config/providers');
  for (const { provider, keys } of data) {
    for (const { id } of keys) await gateway.fetch(`/config/providers/${provider}/keys/${id}`, { method: 'DELETE' });
  }
});

const newKey = () => `live/${crypto.randomUUID()}`;
const store = async (settings: Record<string, unknown>, provider = 'vault') => {
  const response = await gateway.fetch(`/config/providers/${provider}/keys`, { json: settings });
  expect(response.status).toBe(201);
  return (await response.json()) as { id: string; hint: string };
};
const change = (id: string, json: object, provider = 'vault') =>
  gateway.fetch(`/config/providers/${provider}/keys/${id}`, { method: 'PATCH', json });
const stored = async (provider = 'vault') => {
  const { data } = await gateway.json('/config/providers');
  return data.find((entry: { provider: string }) => entry.provider === provider);
};
const makeKey = async (settings: Record<string, unknown> = {}) => {
  const response = await gateway.fetch('/config/virtual-keys', { json: { name: 'test', ...settings } });
  expect(response.status).toBe(201);
  return response.json() as Promise<{ id: string; key: string; mappedProviderKeys: object[] }>;
};
const ask = (key?: string, body: Record<string, unknown> = {}) =>
  gateway.fetch('/v1/chat/completions', {
    ...(key && { key }),
    json: { model: 'vault/gpt-5-mini', messages: [{ role: 'user', content: 'hi' }], ...body },
  });
const usedKeys = () => upstream.received.map(({ headers }) => String(headers.authorization).replace('Bearer ', ''));
/** Answers once what was changed has come round. */
const succeeds = (key?: string) => eventually(async () => (await ask(key)).status === 200);

describe('the providers’ keys', () => {
  it('are stored, listed without themselves, changed and deleted', async () => {
    const key = newKey();
    const made = await store({ key, team: 'alpha', region: 'eu-west-1', weight: 3 });
    const shown = {
      id: expect.stringMatching(/^pk-/),
      hint: key.slice(-4),
      region: 'eu-west-1',
      team: 'alpha',
      virtual_key_id: null,
      weight: 3,
      state: 'active',
      benched_until: null,
      bench_reason: null,
      created_at: expect.any(String),
    };
    expect(made).toEqual(shown);
    expect(await stored()).toEqual({
      provider: 'vault',
      type: 'openai',
      label: 'OpenAIProvider',
      region: null,
      default_model: 'gpt-5-mini',
      capabilities: expect.arrayContaining(['tools']),
      keys: [shown],
    });
    const patched = await change(made.id, { weight: 5, team: null, state: 'disabled', key: `${key}-next` });
    expect(await patched.json()).toEqual({ ...shown, weight: 5, team: null, state: 'disabled', hint: 'next' });
    const gone = `/config/providers/vault/keys/${made.id}`;
    expect((await gateway.fetch(gone, { method: 'DELETE' })).status).toBe(204);
    expect((await gateway.fetch(gone, { method: 'DELETE' })).status).toBe(404);
    expect((await change(made.id, { weight: 1 })).status).toBe(404);
  });

  it('are for administrators', async () => {
    const { key } = await makeKey();
    expect((await gateway.fetch('/config/providers', { key })).status).toBe(403);
    expect((await gateway.fetch('/config/providers/vault/keys', { key, json: { key: 'x' } })).status).toBe(403);
  });

  it.each([
    ['nowhere', { key: 'sk-planted-key' }, 404],
    ['vault', {}, 400],
    ['vault', { key: 'sk-planted key' }, 400],
    ['vault', { key: 'sk-planted-key', weight: 0 }, 400],
    ['vault', { key: 'sk-planted-key', virtualKeyId: 'vk-none' }, 400],
    ['aws', { key: 'sk-planted-key' }, 400],
  ])('of %s are not %j', async (provider, json, status) => {
    const response = await gateway.fetch(`/config/providers/${provider}/keys`, { json });
    expect(response.status).toBe(status);
    expect(await response.text()).not.toContain('planted');
  });

  it('switch a provider on that has none in its config', async () => {
    const refused = await ask();
    expect(refused.status).toBe(502);
    expect(((await refused.json()) as { error: { code: string } }).error.code).toBe('provider_auth_failed');
    expect(upstream.received).toHaveLength(0);
    const key = newKey();
    accepted.add(key);
    const { id } = await store({ key });
    await succeeds();
    expect(new Set(usedKeys())).toEqual(new Set([key]));
    const { data } = await gateway.json('/logs?limit=1');
    expect(data[0].attempts).toMatchObject([{ target: 'vault/gpt-5-mini', key: id }]);
    const { providers } = await gateway.json('/health');
    expect(providers.vault.status).toBe('healthy');
  });

  it('of Bedrock sign its calls', async () => {
    await store({ key: 'AKIASTOREDKEY00001:secret/stored+key' }, 'aws');
    expect((await stored('aws')).keys).toMatchObject([{ hint: '0001' }]);
    await eventually(async () => {
      await ask(undefined, { model: 'aws/amazon.nova-pro-v1:0' });
      return usedKeys().some((used) => used.includes('Credential=AKIASTOREDKEY00001/'));
    });
  });
});

describe('a key that the provider refuses', () => {
  it('is benched, while the caller is answered by another', async () => {
    const [bad, good] = [newKey(), newKey()];
    accepted.add(good);
    const { id } = await store({ key: bad, weight: 1_000_000 });
    await store({ key: good });
    for (const stream of [false, true]) {
      const response = await eventually(async () => {
        const answer = await ask(undefined, { stream });
        return answer.status === 200 ? answer : undefined;
      });
      expect(await response.text()).toContain('hi');
      await eventually(async () => (await stored()).keys[0].bench_reason === 'provider_auth');
    }
    expect((await stored()).keys[0]).toMatchObject({ id, benched_until: expect.any(String) });
    const { data } = await gateway.json('/logs?limit=20');
    const repeated = data.find((row: { attempts: { key: string }[] }) => row.attempts.some(({ key }) => key === id));
    // An earlier test's key may have been tried before these.
    expect(repeated.attempts.slice(-2)).toMatchObject([
      { state: 'failed', error: 'provider_auth', key: id, cost_usd: 0 },
      { state: 'succeeded', error: null },
    ]);
  });

  it('works again as soon as it is set right', async () => {
    const { id } = await store({ key: newKey() });
    await eventually(async () => {
      await ask();
      return (await stored()).keys[0].bench_reason;
    });
    const key = newKey();
    accepted.add(key);
    expect(await (await change(id, { key })).json()).toMatchObject({ benched_until: null, bench_reason: null });
    await succeeds();
  });
});

describe('a rotation under load', () => {
  it('fails no request, and the old key is not used any more after a second', async () => {
    let current = newKey();
    accepted.add(current);
    const { id } = await store({ key: current });
    await succeeds();
    const statuses: number[] = [];
    let running = true;
    const caller = async () => {
      while (running) statuses.push((await ask()).status);
    };
    const callers = [caller(), caller(), caller()];
    for (let i = 0; i < 3; i += 1) {
      const next = newKey();
      accepted.add(next);
      await change(id, { key: next });
      // The provider does not wait for anybody.
      accepted.delete(current);
      current = next;
      const revokedAt = Date.now();
      await eventually(async () => usedKeys().at(-1) === current && Date.now() - revokedAt > 1_000);
    }
    running = false;
    await Promise.all(callers);
    expect(statuses.length).toBeGreaterThan(10);
    expect(new Set(statuses)).toEqual(new Set([200]));
    upstream.reset();
    await ask();
    expect(usedKeys()).toEqual([current]);
  });
});

describe('whose key it is', () => {
  it('decides who is served by it', async () => {
    const [shared, teams] = [newKey(), newKey()];
    const team = crypto.randomUUID();
    const [member, stranger] = [await makeKey({ team }), await makeKey()];
    for (const key of [shared, teams]) accepted.add(key);
    await store({ key: shared });
    await store({ key: teams, team });
    await succeeds(member.key);
    await eventually(async () => {
      upstream.reset();
      await ask(member.key);
      return usedKeys()[0] === teams;
    });
    upstream.reset();
    // Saying that it counts for the team makes nobody its member.
    await ask(stranger.key, { metadata: { team } });
    await ask();
    expect(usedKeys()).toEqual([shared, shared]);
  });

  it('may be a virtual key, which brings its own', async () => {
    const [own, next] = [newKey(), newKey()];
    for (const key of [own, next]) accepted.add(key);
    const mapped = (apiKey: string) => ({ mappedProviderKeys: [{ providerId: 'vault', apiKey }] });
    const { id, key, mappedProviderKeys } = await makeKey(mapped(own));
    const shown = (apiKey: string) => [{ providerId: 'vault', hint: apiKey.slice(-4) }];
    expect(mappedProviderKeys).toEqual(shown(own));
    await succeeds(key);
    expect((await ask()).status).toBe(502);
    expect(usedKeys()).toContain(own);

    const path = `/config/virtual-keys/${id}`;
    const patched = await gateway.json(path, { method: 'PATCH', json: mapped(next) });
    expect(patched.mappedProviderKeys).toEqual(shown(next));
    const kept = await gateway.json(path, { method: 'PATCH', json: { name: 'renamed' } });
    expect(kept).toMatchObject({ name: 'renamed', mappedProviderKeys: shown(next) });
    expect((await gateway.json(path)).mappedProviderKeys).toEqual(shown(next));
    await eventually(async () => {
      upstream.reset();
      return (await ask(key)).status === 200 && usedKeys()[0] === next;
    });
    expect((await stored()).keys).toMatchObject([{ virtual_key_id: id }]);

    await gateway.fetch(path, { method: 'PATCH', json: { mappedProviderKeys: null } });
    expect((await gateway.json(path)).mappedProviderKeys).toEqual([]);
    const wrong = await gateway.fetch(path, { method: 'PATCH', json: { ...mapped('with space'), name: 'not' } });
    expect(wrong.status).toBe(400);
    expect(await wrong.json()).toMatchObject({ error: { param: 'mappedProviderKeys[0]' } });
    expect((await gateway.json(path)).name).toBe('renamed');
  });
});
