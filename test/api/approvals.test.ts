import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Agency, askedAs, echo } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion, openaiToolCalls } from '../support/shapes.ts';

const SECRET = `whsec_${Buffer.from('a secret of the receiver').toString('base64')}`;

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
webhooks: { allowed_private_hosts: [127.0.0.1] }
`,
    'configured',
  );
  agency = new Agency(gateway);
  await agency.agents('writer', 'reader');
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
  outside.reply = () => ({ status: 204 });
});

/** A draft that somebody has to agree to before it is read. */
const review = (human: object = {}) => ({
  pattern: 'sequential',
  steps: [
    { pattern: 'single', agent: 'writer' },
    { pattern: 'human_in_loop', name: 'review', title: 'Publish?', ...human },
    { pattern: 'single', agent: 'reader' },
  ],
});

/** A key of somebody with these roles. */
const keyOf = async (roles: readonly string[], team: string | null = null): Promise<string> => {
  const json = { name: crypto.randomUUID(), roles, user: crypto.randomUUID(), ...(team && { team }) };
  return (await gateway.json('/config/virtual-keys', { json })).key;
};

const vote = (id: string, decision: string, rest: { key?: string | undefined } & Record<string, unknown> = {}) => {
  const { key, ...more } = rest;
  return gateway.fetch('/approvals', { ...(key && { key }), json: { approval_id: id, decision, ...more } });
};

describe('a step that needs approval', () => {
  it('shows what, why, at what cost so far and by how much it differs', async () => {
    const { id } = await agency.start(
      review({ reason: 'Because of {{input}}', compare_with: '{{input}}', payload: '{{previous}}!' }),
      { input: 'an order' },
    );
    await agency.until(id, 'input_required');
    const approval = await agency.pending(id);
    expect(approval).toMatchObject({
      status: 'pending',
      kind: 'step',
      workflow_id: id,
      step: 'review',
      requesters: ['master'],
      title: 'Publish?',
      reason: 'Because of an order',
      payload: 'writer(an order)!',
      approvers: { roles: ['approver', 'admin'], count: 1, not_requester: false },
    });
    expect(approval.diff).toContain('-an order\n+writer(an order)!');
    expect(approval.cost_usd).toBeGreaterThan(0);
    expect(upstream.received.map(askedAs)).toEqual(['writer']);
    await vote(approval.id, 'approve');
    expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'reader(writer(an order)!)' });
  });

  it('goes on with what the approver changed it to', async () => {
    const { id } = await agency.start(review());
    const approval = await agency.pending(id);
    const decided = await (await vote(approval.id, 'approve', { payload: 'better', comment: 'Shorter.' })).json();
    expect(decided).toMatchObject({
      status: 'approved',
      votes: [{ actor: 'master', decision: 'approve', comment: 'Shorter.', edited: true }],
    });
    expect(await agency.ended(id)).toMatchObject({ output: 'reader(better)' });
  });

  it('ends the workflow when it is rejected; a retry asks again and pays for nothing that was done', async () => {
    const { id } = await agency.start(review());
    const approval = await agency.pending(id);
    expect((await vote(approval.id, 'reject')).status).toBe(200);
    const ended = await agency.ended(id);
    expect(ended).toMatchObject({ status: 'failed', error: { code: 'approval_rejected' } });
    const again = await agency.post(`/workflows/${id}/retry`);
    await vote((await agency.pending(again.id)).id, 'approve');
    expect(await agency.ended(again.id)).toMatchObject({ output: 'reader(writer(the input))' });
    expect(upstream.received.map(askedAs)).toEqual(['writer', 'reader']);
  });

  it('is decided exactly once, however many decide at the same moment', async () => {
    const { id } = await agency.start(review());
    const approval = await agency.pending(id);
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) => vote(approval.id, n % 2 === 0 ? 'approve' : 'reject')),
    );
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, ...Array(7).fill(409)]);
    await agency.ended(id);
    expect((await vote(approval.id, 'approve')).status).toBe(409);
    expect((await gateway.json(`/approvals/${approval.id}`)).votes).toHaveLength(1);
  });

  it('is for its roles only', async () => {
    const team = crypto.randomUUID();
    const asker = new Agency(gateway, await keyOf(['developer'], team));
    const { id } = await asker.start(review({ approval: { approvers: { roles: ['operator', 'developer'] } } }));
    const approval = await agency.pending(id);
    expect((await vote(approval.id, 'approve', { key: await keyOf(['approver'], team) })).status).toBe(403);
    const admin = await vote(approval.id, 'approve');
    expect([admin.status, (await admin.json()) as Json]).toMatchObject([403, { error: { code: 'forbidden' } }]);
    expect((await vote(approval.id, 'approve', { key: asker.key })).status).toBe(200);
    expect(await agency.ended(id)).toMatchObject({ status: 'completed' });
  });

  it('is withdrawn when its workflow is cancelled', async () => {
    const { id } = await agency.start(review());
    const approval = await agency.pending(id);
    await agency.post(`/workflows/${id}/cancel`);
    expect((await vote(approval.id, 'approve')).status).toBe(409);
    expect(await gateway.json(`/approvals/${approval.id}`)).toMatchObject({ status: 'withdrawn' });
  });

  it('may need several people, none of them who asked', async () => {
    const team = crypto.randomUUID();
    const asker = new Agency(gateway, await keyOf(['developer', 'approver'], team));
    const { id } = await asker.start(review({ approval: { approvers: { count: 2 } } }));
    const approval = await agency.pending(id);
    expect((await vote(approval.id, 'approve', { key: asker.key })).status).toBe(403);
    const [first, second] = [await keyOf(['approver'], team), await keyOf(['approver'], team)];
    const once = (await (await vote(approval.id, 'approve', { key: first })).json()) as Json;
    expect(once).toMatchObject({ status: 'pending' });
    expect((await vote(approval.id, 'approve', { key: first })).status).toBe(409);
    const twice = (await (await vote(approval.id, 'approve', { key: second })).json()) as Json;
    expect(twice).toMatchObject({ status: 'approved' });
    expect(new Set(twice.votes.map(({ actor }: Json) => actor)).size).toBe(2);
    expect(await agency.ended(id)).toMatchObject({ status: 'completed' });
  });

  it('of several people is for what all of them saw: who changes it votes for that alone', async () => {
    const team = crypto.randomUUID();
    const asker = new Agency(gateway, await keyOf(['developer'], team));
    const { id } = await asker.start(review({ approval: { approvers: { count: 2 } } }));
    const approval = await agency.pending(id);
    const [first, second] = [await keyOf(['approver'], team), await keyOf(['approver'], team)];
    await vote(approval.id, 'approve', { key: first });
    const changed = (await (await vote(approval.id, 'approve', { key: second, payload: 'more' })).json()) as Json;
    expect(changed).toMatchObject({ status: 'pending', payload: 'more' });
    expect(changed.votes).toHaveLength(1);
    await vote(approval.id, 'approve', { key: first });
    expect(await asker.ended(id)).toMatchObject({ output: 'reader(more)' });
  });

  it('cannot be approved by who asked, not by a retry of somebody else or by another key of nobody either', async () => {
    const team = crypto.randomUUID();
    const [alice, bob] = [await keyOf(['developer', 'approver'], team), await keyOf(['developer', 'approver'], team)];
    const approval = { approvers: { not_requester: true } };
    const { id } = await new Agency(gateway, alice).start(review({ approval }));
    await agency.pending(id);
    await agency.post(`/workflows/${id}/cancel`);
    const again = await new Agency(gateway, bob).post(`/workflows/${id}/retry`);
    const pending = await agency.pending(again.id);
    expect((await vote(pending.id, 'approve', { key: alice })).status).toBe(403);
    expect((await vote(pending.id, 'approve', { key: bob })).status).toBe(403);

    const nobodys = { name: 'k', team, roles: ['developer', 'approver'] };
    const [one, other] = [
      await gateway.json('/config/virtual-keys', { json: nobodys }),
      await gateway.json('/config/virtual-keys', { json: nobodys }),
    ];
    const theirs = await new Agency(gateway, one.key).start(review({ approval }));
    const asked = await agency.pending(theirs.id);
    expect((await vote(asked.id, 'approve', { key: other.key })).status).toBe(403);
    expect((await vote(asked.id, 'approve', { key: alice })).status).toBe(200);
  });

  it.each([
    ['approve', 'completed'],
    ['reject', 'failed'],
  ])('takes its default when nobody decides in time: %s', async (on_timeout, status) => {
    const { id } = await agency.start(review({ approval: { timeout: 1, on_timeout } }));
    const approval = await agency.pending(id);
    expect(await agency.ended(id)).toMatchObject({ status });
    const expired = await gateway.json(`/approvals/${approval.id}`);
    expect(expired).toMatchObject({ status: 'expired', votes: [] });
    expect(expired.decided_at - expired.expires_at).toBeLessThanOrEqual(2);
  });

  it('is for more people after a while', async () => {
    const team = crypto.randomUUID();
    const approver = await keyOf(['approver'], team);
    const approval = { approvers: { roles: ['operator'] }, escalations: [{ after: 1, roles: ['approver'] }] };
    const { id } = await new Agency(gateway, await keyOf(['developer'], team)).start(review({ approval }));
    const pending = await agency.pending(id);
    expect((await vote(pending.id, 'approve', { key: approver })).status).toBe(403);
    await eventually(async () => (await gateway.json(`/approvals/${pending.id}`)).escalations === 1);
    expect((await vote(pending.id, 'approve', { key: approver })).status).toBe(200);
    expect(await agency.ended(id)).toMatchObject({ status: 'completed' });
  });

  it('is told to the webhook, and so is what became of it', async () => {
    const webhook = { url: `${outside.url}/hook`, secret: SECRET };
    const approval = { escalations: [{ after: 1, roles: ['operator'] }] };
    const { id } = await agency.start(review({ approval }), { webhook });
    const pending = await agency.pending(id);
    await eventually(async () => (await gateway.json(`/approvals/${pending.id}`)).escalations === 1);
    await vote(pending.id, 'approve');
    await agency.ended(id);
    const events = (): Json[] =>
      outside.received.map(({ headers, body }) =>
        new Webhook(SECRET).verify(JSON.stringify(body), headers as Record<string, string>),
      );
    await eventually(async () => events().some(({ type }) => type === 'run.completed'));
    await eventually(async () => events().some(({ type }) => type === 'approval.decided'));
    expect(
      events()
        .map(({ type }) => type)
        .toSorted(),
    ).toEqual(['approval.decided', 'approval.escalated', 'approval.requested', 'run.completed', 'run.input_required']);
    const requested = events().find(({ type }) => type === 'approval.requested');
    expect(requested?.data).toMatchObject({ id, approval: { id: pending.id, step: 'review', kind: 'step' } });
  });

  it('is found by team, by who may decide and by age; other teams do not see it', async () => {
    const team = crypto.randomUUID();
    const developer = new Agency(gateway, await keyOf(['developer'], team));
    const { id } = await developer.start(review({ approval: { approvers: { roles: ['operator', 'approver'] } } }));
    const [mine, theirs] = [await keyOf(['approver'], team), await keyOf(['approver'], crypto.randomUUID())];
    const find = async (query: string, key?: string): Promise<number> =>
      (await gateway.json(`/approvals/pending?workflow_id=${id}&${query}`, { ...(key && { key }) })).data.length;
    await eventually(async () => (await find('', mine)) === 1);
    expect(await find('', theirs)).toBe(0);
    expect(await find(`team=${team}`)).toBe(1);
    expect(await find('team=none')).toBe(0);
    expect(await find('role=approver')).toBe(1);
    expect(await find('role=viewer')).toBe(0);
    expect(await find('mine=true', mine)).toBe(1);
    expect(await find('mine=true')).toBe(0);
    expect(await find('min_age=3600')).toBe(0);
    const [{ id: approval }] = (await gateway.json(`/approvals/pending?workflow_id=${id}`)).data;
    expect((await vote(approval, 'approve', { key: theirs })).status).toBe(404);
    expect((await vote(approval, 'approve', { key: mine })).status).toBe(200);
    expect(await developer.ended(id)).toMatchObject({ status: 'completed' });
  });
});

describe('an agent’s doing that needs approval', () => {
  const tool = () => ({
    type: 'http',
    name: 'pay',
    url: `${outside.url}/pay`,
    parameters: { type: 'object', properties: { amount: { type: 'number' } }, required: ['amount'] },
    requires_approval: true,
  });
  const cashier = async () => {
    await agency.agent('cashier', { tools: [tool()] });
    upstream.reply = ({ body }) => {
      const results = body.messages.filter(({ role }: Json) => role === 'tool');
      if (results.length === 0) return { body: openaiToolCalls(['pay', { amount: 100 }]) };
      return { body: openaiCompletion(`The till says: ${results[0].content}`) };
    };
    outside.reply = ({ body }) => ({ body: { paid: body.amount } });
    return agency.start({ pattern: 'single', agent: 'cashier' });
  };

  it('a tool call is made once it was approved', async () => {
    const { id } = await cashier();
    const approval = await agency.pending(id);
    expect(approval).toMatchObject({ kind: 'tool_call', title: "Call 'pay'", reason: `POST ${outside.url}/pay` });
    expect(JSON.parse(approval.payload)).toEqual({ amount: 100 });
    expect(outside.received).toEqual([]);
    await vote(approval.id, 'approve');
    expect(await agency.ended(id)).toMatchObject({ output: 'The till says: {"paid":100}' });
  });

  it('a tool call that was approved waits while its workflow is paused', async () => {
    const { id } = await cashier();
    const approval = await agency.pending(id);
    await agency.post(`/workflows/${id}/pause`);
    await vote(approval.id, 'approve');
    await eventually(async () => (await gateway.json(`/approvals/${approval.id}`)).status === 'approved');
    expect(await agency.get(id)).toMatchObject({ status: 'paused' });
    expect(outside.received).toEqual([]);
    await agency.post(`/workflows/${id}/resume`);
    await agency.ended(id);
    expect(outside.received).toHaveLength(1);
  });

  it('what an approver makes of it has to make sense', async () => {
    const { id } = await cashier();
    const approval = await agency.pending(id);
    expect((await vote(approval.id, 'approve', { payload: 'all of it' })).status).toBe(400);
    expect((await vote(approval.id, 'reject', { payload: '{}' })).status).toBe(400);
    await vote(approval.id, 'reject');
  });

  it('a tool call is made with the arguments that the approver gave it', async () => {
    const { id } = await cashier();
    await vote((await agency.pending(id)).id, 'approve', { payload: { amount: 5 } });
    expect(await agency.ended(id)).toMatchObject({ output: 'The till says: {"paid":5}' });
    expect(outside.received).toHaveLength(1);
  });

  it('a tool call that was rejected is not made, and the agent is told why', async () => {
    const { id } = await cashier();
    await vote((await agency.pending(id)).id, 'reject', { comment: 'Too much.' });
    const { output } = await agency.ended(id);
    expect(output).toBe('The till says: A person did not approve this call. Too much.');
    expect(outside.received).toEqual([]);
  });

  it('a model call over the agent’s cost limit is not made before', async () => {
    await agency.agent('dear', { limits: { approve_over_usd: 0.000001 } });
    const { id } = await agency.start({ pattern: 'single', agent: 'dear' });
    const approval = await agency.pending(id);
    expect(approval).toMatchObject({ kind: 'model_call', step: 'dear' });
    expect(upstream.received).toEqual([]);
    await vote(approval.id, 'approve');
    expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'dear(the input)' });
  });
});
