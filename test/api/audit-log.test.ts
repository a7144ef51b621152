import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AuditLog } from '../../storage/postgres/audit-log.ts';
import { onEveryDatabase } from '../support/databases.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { openPostgres } from '../support/postgres.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway('providers: { demo: { type: demo } }', 'configured');
});
afterAll(() => gateway.stop());

const trail = async (query: string): Promise<Json[]> => (await gateway.json(`/api/v1/audit-log?${query}`)).data;
const change = (id: string, json: object, key?: string) =>
  gateway.fetch(`/config/virtual-keys/${id}`, { method: 'PATCH', json, ...(key && { key }) });

describe('the audit log', () => {
  it('tells who changed what, newest first, without any secret', async () => {
    const secret = 'sk-ant-api03-very-secret';
    const made = await gateway.fetch('/config/virtual-keys', {
      json: { name: 'ci', roles: ['admin'], costCap: 5, metadata: { note: `uses ${secret}`, api_key: 'hunter2' } },
    });
    const { id, key } = (await made.json()) as { id: string; key: string };
    expect((await change(id, { rateLimit: { rpm: 7 } }, key)).status).toBe(200);
    expect((await gateway.fetch(`/config/virtual-keys/${id}`, { method: 'DELETE' })).status).toBe(204);

    const entries = await trail(`target=${id}`);
    const common = { target_type: 'virtual_key', target_id: id, ip: '127.0.0.1', actor_roles: ['admin'] };
    expect(entries).toMatchObject([
      { ...common, action: 'virtual_key.delete', actor: 'master', changes: {} },
      { ...common, action: 'virtual_key.update', actor: id, changes: { rateLimit: { rpm: 7 } } },
      {
        ...common,
        action: 'virtual_key.create',
        actor: 'master',
        changes: { name: 'ci', costCap: 5, metadata: { note: '[redacted]', api_key: '[redacted]' } },
        request_id: made.headers.get('x-request-id'),
      },
    ]);
    for (const hidden of [secret, key, 'hunter2']) expect(JSON.stringify(entries)).not.toContain(hidden);
  });

  it('holds what was changed, not what was tried or read', async () => {
    const { id } = await gateway.json('/config/virtual-keys', { json: { name: 'ci' } });
    expect((await change(id, { colour: 'red' })).status).toBe(400);
    expect((await change(id, { name: 'new' }, 'sk-hf-wrong')).status).toBe(401);
    expect((await gateway.fetch(`/config/virtual-keys/${id}`)).status).toBe(200);
    expect(await trail(`target=${id}`)).toMatchObject([{ action: 'virtual_key.create' }]);
    expect((await change('vk-none', { name: 'new' })).status).toBe(404);
    expect(await trail('target=vk-none')).toEqual([]);
  });

  it('has the changes of tenants and budgets too', async () => {
    const { id } = await gateway.json('/api/v1/teams', { json: { name: 'Core' } });
    const scope = { type: 'team', id };
    const budget = await gateway.json('/api/v1/budgets', { json: { scope, limit_usd: 100 } });
    await gateway.fetch(`/api/v1/budgets/${budget.id}`, { method: 'PATCH', json: { limit_usd: 50 } });
    expect(await trail(`target=${id}`)).toMatchObject([{ action: 'team.create', changes: { name: 'Core' } }]);
    expect(await trail(`target=${budget.id}`)).toMatchObject([
      { action: 'budget.update', changes: { limit_usd: 50 } },
      { action: 'budget.create', target_type: 'budget', changes: { scope, limit_usd: 100 } },
    ]);
  });

  it('is filtered and paged through', async () => {
    const { id, key } = await gateway.json('/config/virtual-keys', { json: { name: 'a', roles: ['admin'] } });
    // Dates have milliseconds, the log has microseconds: the next one is surely after what was done so far.
    const done = Date.now();
    await eventually(async () => Date.now() > done);
    const since = new Date().toISOString();
    for (const name of ['b', 'c', 'd']) expect((await change(id, { name }, key)).status).toBe(200);
    const names = (entries: Json[]) => entries.map(({ changes }) => changes.name);
    expect(names(await trail(`actor=${id}&action=virtual_key.update`))).toEqual(['d', 'c', 'b']);
    expect(await trail(`actor=${id}&action=virtual_key.delete`)).toEqual([]);
    expect(names(await trail(`target=${id}&since=${since}`))).toEqual(['d', 'c', 'b']);
    const first = await gateway.json(`/api/v1/audit-log?actor=${id}&limit=2`);
    expect(names(first.data)).toEqual(['d', 'c']);
    const rest = await gateway.json(`/api/v1/audit-log?actor=${id}&limit=2&cursor=${first.next_cursor}`);
    expect(names(rest.data)).toEqual(['b']);
    expect(rest.next_cursor).toBeNull();
  });

  it('is for those who may read it, and nobody changes it', async () => {
    const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'x', roles: ['operator'] } });
    expect((await gateway.fetch('/api/v1/audit-log', { key })).status).toBe(403);
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      expect((await gateway.fetch('/api/v1/audit-log', { method })).status).toBe(404);
    }
  });

  it('that cannot be written makes the change a 503', async () => {
    const db = openPostgres();
    try {
      await sql`ALTER TABLE audit_log ADD CONSTRAINT closed CHECK (action <> 'virtual_key.create') NOT VALID`.execute(
        db,
      );
      const refused = await gateway.fetch('/config/virtual-keys', { json: { name: 'unrecorded' } });
      expect(refused.status).toBe(503);
      const text = await refused.text();
      expect(JSON.parse(text)).toMatchObject({ error: { code: 'service_unavailable' } });
      expect(text).not.toContain('sk-hf-');
    } finally {
      await sql`ALTER TABLE audit_log DROP CONSTRAINT IF EXISTS closed`.execute(db);
      await db.destroy();
    }
  });
});

onEveryDatabase('an entry of the audit log', (database) => {
  it('cannot be changed or removed', async () => {
    const { db } = database;
    const targetId = crypto.randomUUID();
    const entry = {
      actor: 'master',
      actorRoles: [],
      action: 'test.add',
      targetId,
      changes: {},
      requestId: 'r',
      ip: '::',
    };
    await new AuditLog(db).add(entry);
    const refusals = [
      sql`UPDATE audit_log SET actor = 'nobody' WHERE target_id = ${targetId}`,
      sql`DELETE FROM audit_log WHERE target_id = ${targetId}`,
      sql`DELETE FROM audit_log WHERE false`,
      sql`TRUNCATE audit_log`,
    ];
    for (const statement of refusals) await expect(statement.execute(db)).rejects.toThrow(/append-only/);
    await expect(
      db.transaction().execute(async (inner) => {
        await sql`SET LOCAL session_replication_role = replica`.execute(inner);
        await sql`DELETE FROM audit_log WHERE target_id = ${targetId}`.execute(inner);
      }),
    ).rejects.toThrow(/append-only/);
    expect(await new AuditLog(db).list({ target: targetId, limit: 5 })).toMatchObject([{ actor: 'master' }]);
  });
});
