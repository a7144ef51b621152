import { createHmac } from 'node:crypto';
import Fastify from 'fastify';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAuthenticator } from '../../api/auth/authenticator.ts';
import { auth } from '../../api/plugins/auth.ts';
import { errors } from '../../api/plugins/errors.ts';
import { authSchema } from '../../config/auth-schema.ts';
import { newId } from '../../domain/ids.ts';
import { Tenants } from '../../storage/postgres/tenants.ts';
import { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { ENCRYPTION_KEY, KEY_SETTINGS, onRealPostgres } from '../support/databases.ts';
import { eventually, MASTER_KEY, startGateway, type TestGateway } from '../support/gateway.ts';
import { PostgresProxy } from '../support/postgres.ts';

const YAML = 'providers: { demo: { type: demo } }';
let gateway: TestGateway;
let other: TestGateway;
beforeAll(async () => {
  gateway = await startGateway(YAML, 'configured');
  other = await startGateway(YAML, 'configured');
});
afterAll(async () => {
  await gateway.stop();
  await other.stop();
});

const makeKey = (settings: Record<string, unknown> = {}): Promise<{ id: string; key: string }> =>
  gateway.json('/config/virtual-keys', { json: { name: 'test', ...settings } });
const login = (apiKey: string, at = gateway) =>
  fetch(`${at.url}/auth/login`, {
    method: 'POST',
    body: JSON.stringify({ api_key: apiKey }),
    headers: { 'content-type': 'application/json' },
  });
const sessionOf = async (apiKey: string) =>
  ((await (await login(apiKey)).json()) as { access_token: string }).access_token;
const me = (token: string, at = gateway) => at.fetch('/auth/me', { key: token });
/** Both front doors accept the token now, so that both remember it. */
async function warm(token: string): Promise<void> {
  expect((await me(token)).status).toBe(200);
  expect((await me(token, other)).status).toBe(200);
}

describe('a session', () => {
  it('stands for its key, at every front door', async () => {
    const { id, key } = await makeKey({ team: 'alpha', roles: ['operator'] });
    const response = await login(key);
    const { access_token, ...rest } = (await response.json()) as { access_token: string };
    expect(rest).toEqual({ token_type: 'bearer', expires_in: 3_600, user: { id, roles: ['operator'], team: 'alpha' } });
    expect(response.headers.get('cache-control')).toBe('no-store');
    for (const door of [gateway, other]) {
      expect(await (await me(access_token, door)).json()).toMatchObject({ id, kind: 'key', team: 'alpha' });
    }
  });

  it('of the master key may do everything', async () => {
    const token = await sessionOf(MASTER_KEY);
    expect(await (await me(token)).json()).toMatchObject({ id: 'master', kind: 'master', roles: ['admin'] });
    expect((await gateway.fetch('/config/virtual-keys', { key: token })).status).toBe(200);
  });

  it('is given for a good key only', async () => {
    const { key } = await makeKey();
    const expired = await makeKey({ expiresAt: new Date(Date.now() - 1_000).toISOString() });
    for (const wrong of ['sk-hf-wrong', 'x', expired.key, await sessionOf(key)]) {
      expect((await login(wrong)).status).toBe(401);
    }
    expect((await login('')).status).toBe(400);
  });

  it('cannot be made without the key that signs it', async () => {
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { iss: 'urn:holdfast:session', sub: 'master', exp: Math.floor(Date.now() / 1000) + 600 };
    const content = `${encode({ alg: 'HS256' })}.${encode(claims)}`;
    const signature = createHmac('sha256', Buffer.from(ENCRYPTION_KEY, 'hex')).update(content).digest('base64url');
    expect((await me(`${content}.${signature}`)).status).toBe(401);
    expect((await me(`${encode({ alg: 'none' })}.${encode(claims)}.`)).status).toBe(401);
    const [header, , good] = (await sessionOf((await makeKey()).key)).split('.');
    expect((await me(`${header}.${encode(claims)}.${good}`)).status).toBe(401);
  });
});

describe('what is revoked', () => {
  const change = (id: string, json: object) => gateway.fetch(`/config/virtual-keys/${id}`, { method: 'PATCH', json });

  it.each<[string, (id: string) => Promise<unknown>]>([
    ['deleted', (id) => gateway.fetch(`/config/virtual-keys/${id}`, { method: 'DELETE' })],
    ['switched off', (id) => change(id, { isActive: false })],
    ['expired', (id) => change(id, { expiresAt: new Date().toISOString() })],
  ])('stops working within a second at every front door when it is %s, its sessions too', async (_how, revoke) => {
    const { id, key } = await makeKey();
    const session = await sessionOf(key);
    await warm(key);
    await warm(session);
    await revoke(id);
    const revokedAt = performance.now();
    const lastGood = new Map<string, number>();
    await eventually(async () => {
      const statuses = await Promise.all(
        [gateway, other].flatMap((door, i) =>
          [key, session].map(async (token, j) => {
            const askedAt = performance.now();
            const { status } = await me(token, door);
            if (status === 200) lastGood.set(`${i}${j}`, askedAt - revokedAt);
            return status;
          }),
        ),
      );
      return statuses.every((status) => status === 401);
    }, 5_000);
    for (const after of lastGood.values()) expect(after).toBeLessThan(1_000);
  });

  it('role is gone within a second as well', async () => {
    const { id, key } = await makeKey({ roles: ['admin'] });
    await warm(key);
    await change(id, { roles: ['viewer'] });
    await eventually(async () => (await other.fetch('/config/virtual-keys', { key })).status === 403, 5_000);
  });
});

onRealPostgres('a database that fails', (database) => {
  it('makes callers wait, and calls no key wrong', async () => {
    const proxy = await new PostgresProxy().start();
    const db = proxy.connect();
    const logger = pino({ level: 'silent' });
    const authenticator = createAuthenticator({
      masterKey: MASTER_KEY,
      encryptionKey: ENCRYPTION_KEY,
      virtualKeys: new VirtualKeys(db),
      tenants: new Tenants(db),
      config: authSchema.parse({}),
      logger,
    });
    const app = Fastify();
    await app.register(errors);
    await app.register(auth, { authenticator });
    app.get('/', { config: { needs: 'models:call' } }, () => 'served');
    const statusOf = async (token: string) => {
      const { statusCode, headers } = await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } });
      if (statusCode === 503) expect(Number(headers['retry-after'])).toBeGreaterThan(0);
      return statusCode;
    };
    try {
      const [cached, fresh] = await Promise.all(
        ['one', 'two'].map((name) => new VirtualKeys(database.db).create({ ...KEY_SETTINGS, name })),
      );
      const session = (await authenticator.login(cached?.key ?? '')).token;
      const unknown = `sk-hf-${newId('vk')}`;
      expect(await statusOf(cached?.key ?? '')).toBe(200);
      expect(await statusOf(unknown)).toBe(401);
      await proxy.cut();
      const seen = await eventually(async () => {
        const askedAt = performance.now();
        const status = await statusOf(cached?.key ?? '');
        expect([200, 503]).toContain(status);
        return status === 503 && askedAt;
      });
      expect(seen).toBeGreaterThan(0);
      expect(await Promise.all([fresh?.key ?? '', unknown, session].map(statusOf))).toEqual([503, 503, 503]);
      expect(await statusOf(MASTER_KEY)).toBe(200);
      expect(await statusOf('not-a-key-of-ours')).toBe(401);
      await proxy.mend();
      expect(await statusOf(cached?.key ?? '')).toBe(200);
      expect(await statusOf(unknown)).toBe(401);
      // A refused statement is no wrong key either.
      await db.destroy();
      expect(await statusOf(fresh?.key ?? '')).toBe(503);
    } finally {
      await app.close();
      await db.destroy().catch(() => {});
      await proxy.stop();
    }
  });
});
