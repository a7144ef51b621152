import { createHmac } from 'node:crypto';
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createJwtVerifier } from '../../api/auth/jwt.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';

const ISSUER = 'https://id.example/realms/main';
const AUDIENCE = 'holdfast';
const provider = new FixtureServer();
const lost = new FixtureServer();
const good = await generateKeyPair('RS256');
const stranger = await generateKeyPair('RS256');
const publicKeys = { keys: [{ ...(await exportJWK(good.publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' }] };
let gateway: TestGateway;

beforeAll(async () => {
  await Promise.all([provider.start(), lost.start()]);
  provider.reply = () => ({ body: publicKeys });
  lost.reply = () => ({ status: 500 });
  gateway = await startGateway(
    `
providers:
  demo: { type: demo }
rate_limit: { enabled: true, requests_per_minute: 4 }
auth:
  jwt:
    - issuer: ${ISSUER}
      audience: [${AUDIENCE}, other]
      jwks_url: ${provider.url}/certs
      claims: { team: org.team, project: project, user: email, roles: realm_access.roles }
      roles: { gateway-admin: admin, gateway-ops: operator, gateway-dev: developer }
      default_roles: [viewer]
    - { issuer: lost, audience: ${AUDIENCE}, jwks_url: "${lost.url}/certs", default_roles: [viewer] }
`,
    'configured',
  );
});
afterAll(async () => {
  await gateway.stop();
  await Promise.all([provider.stop(), lost.stop()]);
});

const unique = () => crypto.randomUUID();
const claimsOf = (claims: JWTPayload = {}): JWTPayload => ({
  iss: ISSUER,
  aud: AUDIENCE,
  email: `ann-${unique()}`,
  iat: seconds(),
  exp: seconds(600),
  ...claims,
});
const seconds = (offset = 0) => Math.floor(Date.now() / 1000) + offset;
const sign = (claims: JWTPayload = {}, { kid = 'k1', key = good.privateKey } = {}) =>
  new SignJWT(claimsOf(claims)).setProtectedHeader({ alg: 'RS256', kid }).sign(key);
const me = (key: string) => gateway.fetch('/auth/me', { key });
const ask = (key: string, metadata = {}) =>
  gateway.fetch('/v1/chat/completions', {
    key,
    json: { model: 'demo', messages: [{ role: 'user', content: 'hi' }], metadata },
  });
const withRoles = (...roles: string[]) => ({ realm_access: { roles } });

describe('a token of an identity provider', () => {
  it('says who the caller is', async () => {
    const email = `ann-${unique()}`;
    const token = await sign({ email, org: { team: 'blue' }, project: 'p', ...withRoles('gateway-ops', 'else') });
    expect(await (await me(token)).json()).toEqual({
      id: `user:${email}`,
      kind: 'user',
      team: 'blue',
      project: 'p',
      user: email,
      roles: ['operator'],
      permissions: ['ledger:read', 'runs:operate'],
    });
  });

  it('calls models for its team, and nobody outside reads that', async () => {
    const team = unique();
    const made = await ask(await sign({ org: { team }, ...withRoles('gateway-dev') }), { team: 'other' });
    expect(made.status).toBe(200);
    const { id } = (await made.json()) as { id: string };
    expect(await gateway.json(`/logs/${id}`)).toMatchObject({ team, virtual_key_id: null });
    const statusFor = async (claims: JWTPayload) =>
      (await gateway.fetch(`/logs/${id}`, { key: await sign(claims) })).status;
    expect(await statusFor({ org: { team } })).toBe(200);
    expect(await statusFor({ org: { team: unique() } })).toBe(404);
    expect(await statusFor({})).toBe(404);
    expect(await statusFor(withRoles('gateway-admin'))).toBe(200);
    expect(await statusFor({ org: { team: unique() }, ...withRoles('gateway-admin') })).toBe(404);
  });

  it('without a team owns what it asked for, never the master key', async () => {
    const email = `bob-${unique()}`;
    const token = await sign({ email, ...withRoles('gateway-dev') });
    const { id } = (await (await ask(token, { team: 'red', user: 'eve' })).json()) as { id: string };
    expect(await gateway.json(`/logs/${id}`)).toMatchObject({ team: null, user_id: email });
    expect((await gateway.fetch(`/v1/chat/completions/${id}`, { key: token })).status).toBe(200);
    const { data } = await gateway.json('/logs', { key: token });
    expect(data.map((row: { id: string }) => row.id)).toEqual([id]);
    const other = await sign(withRoles('gateway-dev'));
    expect((await gateway.fetch(`/v1/chat/completions/${id}`, { key: other })).status).toBe(404);
    expect(await gateway.json('/logs', { key: other })).toMatchObject({ data: [] });
  });

  it('is kept to the default limits as a key is', async () => {
    const token = await sign(withRoles('gateway-dev'));
    const statuses = await Promise.all(Array.from({ length: 12 }, () => ask(token).then(({ status }) => status)));
    expect(statuses).toContain(429);
  });

  it('of a user who was switched off is refused; one who has roles here has them', async () => {
    const email = `eve-${unique()}`;
    const token = await sign({ email });
    expect(await (await me(token)).json()).toMatchObject({ roles: ['viewer'] });
    await gateway.json('/api/v1/users', { json: { id: email, name: 'Eve', roles: ['approver'] } });
    await eventually(async () => ((await (await me(token)).json()) as { roles: string[] }).roles.includes('approver'));
    await gateway.fetch(`/api/v1/users/${email}`, { method: 'PATCH', json: { is_active: false } });
    await eventually(async () => (await me(token)).status === 401);
  });

  it.each<[string, () => Promise<string> | string]>([
    ['another issuer', () => sign({ iss: 'https://evil.example' })],
    ['another audience', () => sign({ aud: 'billing' })],
    ['no audience', () => sign({ aud: undefined as unknown as string })],
    ['an end in the past', () => sign({ exp: seconds(-60) })],
    ['no end', () => sign({ exp: undefined as unknown as number })],
    ['a beginning in the future', () => sign({ nbf: seconds(600) })],
    ['another’s signature', () => sign({}, { key: stranger.privateKey })],
    ['a key nobody knows', () => sign({}, { kid: 'k9', key: stranger.privateKey })],
    ['no signature', () => new UnsecuredJWT(claimsOf()).encode()],
    ['the public key as a shared secret', forgeWithPublicKey],
    ['a changed payload', async () => tamper(await sign())],
    ['no user', () => sign({ email: undefined })],
    ['nonsense in it', () => 'eyJh.eyJh.eyJh'],
  ])('with %s is a 401', async (_name, make) => {
    const response = await me(await make());
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe('Bearer');
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_api_key' } });
  });

  it('may be off by half a minute', async () => {
    expect((await me(await sign({ exp: seconds(-15) }))).status).toBe(200);
    expect((await me(await sign({ nbf: seconds(15) }))).status).toBe(200);
  });

  it('is a 503 while nobody can say whether it is good', async () => {
    lost.reply = () => ({ status: 500 });
    const token = await sign({ iss: 'lost', sub: 'ann' });
    const refused = await me(token);
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    lost.reply = () => ({ body: publicKeys });
    expect((await me(token)).status).toBe(200);
  });
});

describe('the public keys of an issuer', () => {
  afterEach(() => vi.useRealTimers());

  it('stay good while the issuer cannot be asked, and give way to new ones', async () => {
    const source = await new FixtureServer().start();
    const verify = createJwtVerifier(
      [
        {
          issuer: ISSUER,
          audience: AUDIENCE,
          jwks_url: `${source.url}/certs`,
          claims: { user: 'email' },
          roles: {},
          default_roles: [],
        },
      ],
      pino({ level: 'silent' }),
    );
    const next = { keys: [{ ...(await exportJWK(stranger.publicKey)), kid: 'k2', alg: 'RS256' }] };
    const token = await sign({ exp: seconds(7_200) });
    const newer = await sign({ exp: seconds(7_200) }, { kid: 'k2', key: stranger.privateKey });
    try {
      source.reply = () => ({ body: publicKeys });
      await expect(verify(token)).resolves.toMatchObject({ roles: [] });
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
      source.reply = () => ({ status: 503 });
      await expect(verify(token)).resolves.toMatchObject({ roles: [] });
      await expect(verify(newer)).rejects.toMatchObject({ code: 'gateway_unavailable' });
      source.reply = () => ({ body: next });
      await expect(verify(newer)).resolves.toMatchObject({ roles: [] });
      await expect(verify(token)).rejects.toMatchObject({ code: 'caller_unauthenticated' });
      const asked = source.received.length;
      await expect(verify(token)).rejects.toMatchObject({ code: 'caller_unauthenticated' });
      expect(source.received).toHaveLength(asked);
    } finally {
      await source.stop();
    }
  });
});

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

async function forgeWithPublicKey(): Promise<string> {
  const content = `${encode({ alg: 'HS256', kid: 'k1' })}.${encode(claimsOf())}`;
  const secret = await exportSPKI(good.publicKey);
  return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`;
}

function tamper(token: string): string {
  const [header, , signature] = token.split('.');
  return `${header}.${encode(claimsOf(withRoles('gateway-admin')))}.${signature}`;
}
