import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Certificate, CertificateAuthority } from '../support/certificates.ts';
import { eventually, type Json, MASTER_KEY, startGateway, type TestGateway } from '../support/gateway.ts';
import { openPostgres } from '../support/postgres.ts';

const dir = mkdtempSync(join(tmpdir(), 'holdfast-certificates-'));
const authority = new CertificateAuthority(dir, 'ours');
const server = authority.issue('localhost', 'DNS:localhost,IP:127.0.0.1');
const yaml = (tls: string) => `
providers: { demo: { type: demo } }
server:
  shutdown_grace: 5
  tls: { cert: "${server.files.cert}", key: "${server.files.key}", client_ca: "${authority.own.files.cert}"${tls} }
auth:
  mtls:
    subjects:
      billing: { team: finance, roles: [developer] }
      "spiffe://prod/agents": { user: robot, roles: [developer, operator] }
      ops.internal: { roles: [admin] }
`;

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway(yaml(''), 'configured');
});
afterAll(async () => {
  await gateway.stop();
  rmSync(dir, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly body: Json;
}

/** One request on a connection of its own. */
function call(
  path: string,
  { as, key, json, to = gateway }: { as?: Certificate; key?: string; json?: unknown; to?: TestGateway } = {},
): Promise<Answer> {
  const { port } = new URL(to.url);
  const headers = {
    ...(key && { authorization: `Bearer ${key}` }),
    ...(json !== undefined && { 'content-type': 'application/json' }),
  };
  const identity = as && { cert: as.cert, key: as.key };
  const options = { host: 'localhost', port, path, ca: authority.own.cert, headers, agent: false, ...identity };
  return new Promise((resolve, reject) => {
    const sent = request({ ...options, method: json === undefined ? 'GET' : 'POST' }, async (response) => {
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part as Buffer);
      resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(parts).toString()) });
    });
    sent.on('error', reject).end(json === undefined ? undefined : JSON.stringify(json));
  });
}
const me = (as?: Certificate, key?: string) => call('/auth/me', { ...(as && { as }), ...(key && { key }) });

describe('a client certificate', () => {
  it('says who the caller is by its common name, URI or DNS name', async () => {
    expect(await me(authority.issue('billing'))).toMatchObject({
      status: 200,
      body: { id: 'client:billing', kind: 'client', team: 'finance', roles: ['developer'] },
    });
    const agents = authority.issue('anything', 'DNS:nowhere,URI:spiffe://prod/agents');
    expect(await me(agents)).toMatchObject({ body: { id: 'client:spiffe://prod/agents', user: 'robot', team: null } });
    expect(await me(authority.issue('x', 'DNS:ops.internal'))).toMatchObject({ body: { roles: ['admin'] } });
  });

  it('calls models for its team, or for itself', async () => {
    const json = { model: 'demo', messages: [{ role: 'user', content: 'hi' }] };
    const billing = await call('/v1/chat/completions', { as: authority.issue('billing'), json });
    expect(billing.status).toBe(200);
    const log = await call(`/logs/${billing.body.id}`, { key: MASTER_KEY });
    expect(log.body).toMatchObject({ team: 'finance', virtual_key_id: null });
    const agents = authority.issue('agents', 'URI:spiffe://prod/agents');
    expect((await call(`/logs/${billing.body.id}`, { as: agents })).status).toBe(404);
    const own = await call('/v1/chat/completions', { as: agents, json });
    expect((await call(`/v1/chat/completions/${own.body.id}`, { as: agents })).status).toBe(200);
  });

  it('that nobody knows, or none, is a 401', async () => {
    expect((await me(authority.issue('stranger'))).status).toBe(401);
    expect((await me(authority.issue('constructor'))).status).toBe(401);
    expect((await me()).status).toBe(401);
  });

  it('of another authority is a 401', async () => {
    const forged = new CertificateAuthority(dir, 'theirs').issue('billing');
    expect((await me(forged)).status).toBe(401);
  });

  it('cannot bring two names into one', async () => {
    expect((await me(authority.issue('x', '@names\n[names]\nDNS = "x\\, DNS:ops.internal"'))).status).toBe(401);
    expect((await me(authority.issue('x', '@names\n[names]\nURI = "a\\, URI:spiffe://prod/agents"'))).status).toBe(401);
  });

  it('gives way to an API key', async () => {
    const billing = authority.issue('billing');
    expect(await me(billing, MASTER_KEY)).toMatchObject({ body: { id: 'master' } });
    expect((await me(billing, 'sk-hf-wrong')).status).toBe(401);
  });

  it('of a user who was switched off is a 401', async () => {
    const agents = authority.issue('agents', 'URI:spiffe://prod/agents');
    const db = openPostgres();
    try {
      await db
        .insertInto('users')
        .values({ id: 'robot', name: 'robot', email: null, team: null, is_active: false })
        .execute();
      await eventually(async () => (await me(agents)).status === 401);
    } finally {
      await db.deleteFrom('users').where('id', '=', 'robot').execute();
      await db.destroy();
    }
  });
});

describe('a front door with TLS', () => {
  it('turns away who has no certificate where one is required', async () => {
    const strict = await startGateway(yaml(', require_client_cert: true'), 'configured');
    try {
      await expect(call('/health/live', { to: strict })).rejects.toThrow();
      const known = authority.issue('billing');
      expect((await call('/auth/me', { to: strict, as: known })).status).toBe(200);
    } finally {
      await strict.stop();
    }
  });

  it('lets a request finish when it stops', async () => {
    const stopping = await startGateway(yaml(''), 'configured');
    const team = crypto.randomUUID();
    const json = { model: 'demo', messages: [{ role: 'user', content: '[demo delay=700] hi' }], metadata: { team } };
    const answers = Array.from({ length: 3 }, () =>
      call('/v1/chat/completions', { to: stopping, key: MASTER_KEY, json }),
    );
    await eventually(async () => {
      const { body } = await call(`/logs?team=${team}`, { key: MASTER_KEY });
      const calls = body.data.flatMap((row: Json) => row.attempts);
      return calls.length === 3 && calls.every((attempt: Json) => attempt.state === 'claimed');
    });
    await stopping.stop();
    for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200);
  });
});
