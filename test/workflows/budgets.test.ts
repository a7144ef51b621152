import { Client, Connection } from '@temporalio/client';
import { sql } from 'kysely';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SweepReport } from '../../activities/sweep.ts';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import { Agency } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion } from '../support/shapes.ts';

const SECRET = `whsec_${Buffer.from('a secret of the receiver').toString('base64')}`;

describe.skipIf(inject('postgres') === null)('budgets', () => {
  const upstream = new FixtureServer();
  const receiver = new FixtureServer();
  let gateway: TestGateway;
  let connection: Connection;
  let client: Client;
  let db: Sql;
  beforeAll(async () => {
    await upstream.start();
    await receiver.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }
budgets: { webhook: { url: "${receiver.url}/alerts", secret: "${SECRET}" } }
`,
      'configured',
    );
    connection = await Connection.connect({ address: inject('temporal') });
    client = new Client({ connection });
    db = connectDatabase({ url: inject('postgres') ?? '', maxConnections: 1, onError: () => {} });
  });
  afterAll(async () => {
    await gateway.stop();
    await connection.close();
    await db.destroy();
    await upstream.stop();
    await receiver.stop();
  });

  const makeTeam = async (limitUsd: number) => {
    const team = crypto.randomUUID();
    const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'k', team } });
    const json = { scope: { type: 'team', id: team }, limit_usd: limitUsd };
    const { id } = await gateway.json('/api/v1/budgets', { json });
    return { key: key as string, team, budget: () => gateway.json(`/api/v1/budgets/${id}`) as Promise<Json> };
  };
  const ask = (key: string) =>
    gateway.fetch('/v1/chat/completions', {
      key,
      json: { model: 'gpt-5-mini', max_tokens: 100, messages: [{ role: 'user', content: 'hi' }] },
    });
  const sweep = (): Promise<SweepReport> =>
    client.workflow.execute('sweep', { taskQueue: gateway.taskQueue, workflowId: `sweep-${crypto.randomUUID()}` });

  it('tell a receiver once at each threshold, signed, until it takes the alert', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key, team } = await makeTeam(0.01);
    // A sweep also tells of what other suites left open.
    const alerts = () => receiver.received.filter(({ body }) => body?.data.scope.id === team);
    receiver.reply = () => ({ status: alerts().length === 1 ? 500 : 204 });
    const before = (await (await ask(key)).json()) as Json;
    // As much as brings the next request over 80 %, so that it passes two thresholds.
    await sql`UPDATE spend_counters SET spent_nanos = 7999999 WHERE scope_id = ${team}`.execute(db);
    expect(before.metadata.cost_usd).toBeGreaterThan(0);
    expect((await ask(key)).status).toBe(200);
    await eventually(async () => alerts().length >= 3);
    const events = alerts().map(({ headers, body }) => {
      const text = JSON.stringify(body);
      return new Webhook(SECRET).verify(text, headers as Record<string, string>) as Json;
    });
    const ids = new Set(alerts().map(({ headers }) => headers['webhook-id']));
    expect(ids.size).toBe(2);
    expect(new Set(events.map(({ data }) => data.threshold_percent))).toEqual(new Set([50, 80]));
    expect(events[0]).toMatchObject({
      type: 'budget.threshold_reached',
      data: { scope: { type: 'team', id: team }, period: 'monthly', kind: 'hard', limit_usd: 0.01 },
    });
    await ask(key);
    await sweep();
    expect(alerts().length).toBe(3);
  });

  it('get back what a terminated run had reserved, at the next sweep', async () => {
    upstream.reset();
    upstream.reply = () => ({ delayMs: 60_000 });
    const { key, budget } = await makeTeam(1);
    const asked = ask(key);
    const [run] = await eventually(async () => {
      const { data } = await gateway.json('/logs?limit=1', { key });
      return data.length > 0 && upstream.received.length > 0 && data;
    });
    expect((await budget()).reserved_usd).toBeGreaterThan(0);
    await client.workflow.getHandle(run.id).terminate('by an operator');
    expect((await sweep()).settled).not.toContain(run.id);
    await sql`UPDATE llm_requests SET timestamp = timestamp - interval '2 minutes' WHERE id = ${run.id}`.execute(db);
    expect((await sweep()).settled).toContain(run.id);
    const { reserved_usd, spent_usd } = await budget();
    expect(reserved_usd).toBe(0);
    // The call was under way: nobody can say whether it was billed.
    expect(spent_usd).toBeGreaterThan(0);
    expect((await gateway.json(`/logs/${run.id}`)).attempts).toMatchObject([{ state: 'unknown' }]);
    expect((await asked).status).toBe(409);
  });

  it('a terminated workflow leaves no step under way and nobody waiting, after the next sweep', async () => {
    const agency = new Agency(gateway);
    const ask = { pattern: 'sequential', steps: [{ pattern: 'human_in_loop', name: 'ask', title: 'ok?' }] };
    const { id } = await agency.start(ask);
    const approval = await agency.pending(id);
    await client.workflow.getHandle(id).terminate('by an operator');
    await sql`UPDATE runs SET created_at = now() - interval '2 minutes' WHERE id = ${id}`.execute(db);
    expect((await sweep()).ended).toContain(id);
    const workflow = await agency.get(id);
    expect(workflow).toMatchObject({ status: 'cancelled', approvals: [{ status: 'withdrawn' }] });
    expect(workflow.steps.map(({ status }: Json) => status)).toEqual(['cancelled', 'cancelled']);
    const vote = await agency.post('/approvals', { approval_id: approval.id, decision: 'approve' });
    expect(vote).toMatchObject({ error: { code: 'conflict' } });
  });

  it('whose counters disagree with the ledger are set right', async () => {
    upstream.reply = () => ({ body: openaiCompletion('hi') });
    const { key, team, budget } = await makeTeam(1);
    await ask(key);
    const { spent_usd } = await eventually(async () => (await budget()).spent_usd > 0 && budget());
    await sql`
      UPDATE spend_counters SET spent_nanos = spent_nanos + 500, reserved_nanos = reserved_nanos + 70, checked_at = NULL
      WHERE scope_id = ${team}`.execute(db);
    const { drift } = await sweep();
    expect(drift.find(({ id }) => id === team)).toEqual({
      scope: 'team',
      id: team,
      period: 'monthly',
      spentNanos: -500,
      reservedNanos: -70,
    });
    expect(await budget()).toMatchObject({ spent_usd, reserved_usd: 0 });
    expect((await sweep()).drift.filter(({ id }) => id === team)).toEqual([]);
  });
});
