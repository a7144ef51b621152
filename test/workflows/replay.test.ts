import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker } from '@temporalio/worker';
import { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { workflowBundle } from '../../workers/worker.ts';
import { Agency, askedAs, echo } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, silenceRuntime, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion, openaiToolCalls } from '../support/shapes.ts';
import { connectWebhooks, type RecordedWebhooks } from '../support/webhooks.ts';

const HISTORIES = resolve(import.meta.dirname, '..', 'histories');
/** `HOLDFAST_RECORD_HISTORIES=1` stores the histories of the scenarios below, for later code to be held against. */
const record = process.env.HOLDFAST_RECORD_HISTORIES === '1';

/** @param history A history, or its JSON. */
const replay = (history: unknown, id: string) =>
  Worker.runReplayHistory({ workflowBundle: workflowBundle() }, history, id);

beforeAll(silenceRuntime);

describe('stored histories of earlier code', () => {
  const files = readdirSync(HISTORIES).filter((file) => file.endsWith('.json'));

  it.each(files)('%s replays', async (file) => {
    await replay(JSON.parse(readFileSync(join(HISTORIES, file), 'utf8')), file);
  });

  it('are refused when they are not what the code would do', async () => {
    const [file = ''] = files;
    const text = readFileSync(join(HISTORIES, file), 'utf8').replaceAll('"callProvider"', '"somethingElse"');
    await expect(replay(JSON.parse(text), file)).rejects.toThrow(/nondeterminism/i);
  });
});

describe('histories of today', () => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  let agency: Agency;
  let recorded: RecordedWebhooks;
  let connection: Connection;
  let client: Client;
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
default_provider: openai
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 2 }
  other: { type: openai, base_url: "${upstream.url}/other/v1", api_key: k, default_model: some-model }
fallback: { fallback_order: [other] }
retry: { retry_delay: 0.01 }
budgets: { webhook: { url: "${upstream.url}/alerts" } }
webhooks: { allowed_private_hosts: [127.0.0.1] }
background: { native_batches: false }
agents: { allowed_private_hosts: [127.0.0.1] }
`,
      'configured',
    );
    agency = new Agency(gateway);
    await agency.agents('a', 'b', 'c', 'boss');
    await agency.agent('tooled', {
      tools: [{ type: 'http', name: 'look', url: `${upstream.url}/look`, requires_approval: true }],
    });
    const remote = { name: 'remote', kind: 'remote', url: `${upstream.url}/remote` };
    await agency.post('/agents/register', remote);
    recorded = await connectWebhooks();
    connection = await Connection.connect({ address: inject('temporal') });
    client = new Client({ connection });
  });
  afterAll(async () => {
    await gateway.stop();
    await recorded.close();
    await connection.close();
    await upstream.stop();
  });

  const ask = (key?: string, headers: Record<string, string> = {}) =>
    gateway.fetch('/v1/chat/completions', {
      ...(key && { key }),
      headers,
      json: { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }] },
    });
  const job = (terms: object = {}): Promise<Json> => {
    const body = { model: 'gpt-5-mini', max_tokens: 5000, messages: [{ role: 'user', content: 'hi' }] };
    return gateway.json('/v1/jobs', { json: { endpoint: '/v1/chat/completions', body, ...terms } });
  };
  const step = (agent: string) => ({ pattern: 'single', agent });
  const runOf = (response: Response) => response.headers.get('x-holdfast-run-id') ?? '';

  const startBatch = async (ids: readonly string[]): Promise<string> => {
    const lines = ids.map((id) => ({
      custom_id: id,
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model: 'gpt-5-mini', messages: [{ role: 'user', content: id }] },
    }));
    const file = await toFile(Buffer.from(lines.map((line) => JSON.stringify(line)).join('\n')), 'in.jsonl');
    const { id: input_file_id } = await gateway.client.files.create({ file, purpose: 'batch' });
    const batch = { input_file_id, endpoint: '/v1/chat/completions', completion_window: '24h' } as const;
    return (await gateway.client.batches.create(batch)).id;
  };

  const send = async (id: string) => {
    await gateway.fetch(`/v1/webhooks/deliveries/${id}/resend`, { method: 'POST' });
    return id;
  };

  const scenarios: Record<string, () => Promise<string>> = {
    'completion-answered': async () => {
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      return runOf(await ask());
    },
    'completion-fallback': async () => {
      upstream.reply = ({ path }) => (path.startsWith('/other') ? { body: openaiCompletion('hi') } : { status: 503 });
      return runOf(await ask());
    },
    'completion-failed': async () => {
      upstream.reply = () => ({ status: 400, body: { error: { message: 'bad' } } });
      return runOf(await ask());
    },
    'completion-refused': async () => {
      const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'poor', costCap: 0 } });
      return runOf(await ask(key));
    },
    'completion-waited': async () => {
      const { key } = await gateway.json('/config/virtual-keys', {
        json: { name: 'one', rateLimit: { concurrent: 1 } },
      });
      let release = () => {};
      const until = new Promise<void>((resolve) => {
        release = resolve;
      });
      upstream.reset();
      upstream.reply = () => ({ until, body: openaiCompletion('hi') });
      const first = ask(key);
      await eventually(async () => upstream.received.length === 1);
      const second = ask(key, { 'x-holdfast-max-wait': '30' });
      await eventually(async () => {
        const { data } = await gateway.json('/logs?limit=1');
        const { raw } = await client.workflow.getHandle(data[0].id).describe();
        return raw.pendingActivities?.some(({ lastFailure }) => lastFailure);
      });
      release();
      await first;
      return runOf(await second);
    },
    'completion-alerted': async () => {
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      const team = crypto.randomUUID();
      const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'member', team } });
      await gateway.json('/api/v1/budgets', {
        json: { scope: { type: 'team', id: team }, kind: 'soft', limit_usd: 0.000001 },
      });
      const run = runOf(await ask(key));
      // At 50, 80 and 100 %.
      await eventually(async () => upstream.count(/alerts/) === 3);
      return run;
    },
    'job-answered': async () => {
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      return (await job()).id;
    },
    'job-raised': async () => {
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      const { id } = await job({ max_cost_usd: 0.000001 });
      await eventually(async () => (await gateway.json(`/v1/jobs/${id}`)).status === 'budget_exceeded');
      await gateway.fetch(`/v1/jobs/${id}/pause`, { json: {} });
      await gateway.fetch(`/v1/jobs/${id}/resume`, { json: { max_cost_usd: 1 } });
      return id;
    },
    'job-cancelled': async () => {
      upstream.reset();
      upstream.reply = () => ({ delayMs: 60_000 });
      const { id } = await job();
      await eventually(async () => upstream.received.length === 1);
      await gateway.fetch(`/v1/jobs/${id}/cancel`, { json: {} });
      return id;
    },
    'job-told': async () => {
      upstream.reply = () => ({ body: openaiCompletion('hi') });
      return (await job({ webhook: { url: `${upstream.url}/hook` } })).id;
    },
    'pipeline-single': async () => {
      upstream.reply = echo;
      return (await agency.run(step('a'))).id;
    },
    'pipeline-tools': async () => {
      upstream.reply = (request) => {
        if (request.path === '/look') return { body: { seen: true } };
        const told = request.body.messages.some(({ role }: Json) => role === 'tool');
        return { body: told ? openaiCompletion('seen') : openaiToolCalls(['look', {}], ['look', {}]) };
      };
      const { id } = await agency.start(step('tooled'));
      const first = await agency.pending(id);
      await agency.post('/approvals', { approval_id: first.id, decision: 'approve' });
      const second = await eventually(async () => {
        const approval = await agency.pending(id);
        return approval.id !== first.id && approval;
      });
      await agency.post('/approvals', { approval_id: second.id, decision: 'reject', comment: 'no' });
      return id;
    },
    'pipeline-sequential': async () => {
      upstream.reply = (request) => (request.path === '/remote' ? { body: { output: 'far' } } : echo(request));
      return (await agency.run({ pattern: 'sequential', steps: [step('a'), step('remote'), step('b')] })).id;
    },
    'pipeline-failed': async () => {
      upstream.reply = (request) =>
        askedAs(request) === 'b' ? { status: 400, body: { error: { message: 'no' } } } : echo(request);
      return (await agency.run({ pattern: 'sequential', steps: [step('a'), step('b')] })).id;
    },
    'pipeline-retried': async () => {
      upstream.reply = (request) =>
        askedAs(request) === 'b' ? { status: 400, body: { error: { message: 'no' } } } : echo(request);
      const failed = await agency.run({ pattern: 'sequential', steps: [step('a'), step('b')] });
      upstream.reply = echo;
      return (await agency.post(`/workflows/${failed.id}/retry`)).id;
    },
    'pipeline-parallel': async () => {
      upstream.reply = echo;
      const branches = [step('a'), step('b'), { pattern: 'sequential', steps: [step('c')] }];
      return (await agency.run({ pattern: 'parallel', branches, max_concurrency: 2, merge: step('boss') })).id;
    },
    'pipeline-any': async () => {
      upstream.reply = (request) => (askedAs(request) === 'b' ? echo(request) : { delayMs: 60_000 });
      return (await agency.run({ pattern: 'parallel', branches: ['a', 'b', 'c'].map(step), join: 'any' })).id;
    },
    'pipeline-supervisor': async () => {
      upstream.reply = (request) => {
        if (askedAs(request) !== 'boss') return echo(request);
        const told = request.body.messages.some(({ role }: Json) => role === 'tool');
        return { body: told ? openaiCompletion('done') : openaiToolCalls(['b', { task: 'x' }], ['c', { task: 'y' }]) };
      };
      return (await agency.run({ pattern: 'supervisor', coordinator: 'boss', workers: ['b', 'c'] })).id;
    },
    'pipeline-approved': async () => {
      upstream.reply = echo;
      const approval = { approvers: { count: 1 }, escalations: [{ after: 1, roles: ['operator'] }], timeout: 60 };
      const { id } = await agency.start({
        pattern: 'sequential',
        steps: [step('a'), { pattern: 'human_in_loop', title: 'ok?', approval }, step('b')],
      });
      const { id: approval_id } = await agency.pending(id);
      await eventually(async () => (await gateway.json(`/approvals/${approval_id}`)).escalations === 1);
      await agency.post('/approvals', { approval_id, decision: 'approve', payload: 'changed' });
      return id;
    },
    'pipeline-expired': async () => {
      upstream.reply = echo;
      return (await agency.run({ pattern: 'human_in_loop', title: 'ok?', approval: { timeout: 1 } })).id;
    },
    'pipeline-cancelled': async () => {
      const { id } = await agency.start({ pattern: 'human_in_loop', title: 'ok?' });
      await agency.pending(id);
      await agency.post(`/workflows/${id}/cancel`);
      return id;
    },
    'pipeline-raised': async () => {
      upstream.reply = echo;
      const { id } = await agency.start(step('a'), { max_steps: 1, max_cost_usd: 0.0000001 });
      await agency.until(id, 'budget_exceeded');
      await agency.post(`/workflows/${id}/pause`);
      await agency.post(`/workflows/${id}/resume`, { max_cost_usd: 1 });
      return id;
    },
    'cost-report': async () => {
      const { id } = await gateway.json('/api/v1/reports', { json: { period: 'daily', since: '2003-01-02' } });
      return `${gateway.taskQueue}-cost-report-${id}`;
    },
    webhook: async () => {
      upstream.reply = () => ({ status: 204 });
      return send(await recorded.record(`${upstream.url}/hook`));
    },
    'webhook-failed': async () => {
      upstream.reply = () => ({ status: 410 });
      return send(await recorded.record(`${upstream.url}/hook`));
    },
    batch: async () => {
      upstream.reply = ({ path, body }) => {
        if (body.messages[0].content === 'fails') return { status: 400, body: { error: { message: 'bad' } } };
        return path.startsWith('/other') ? { body: openaiCompletion('hi') } : { status: 503 };
      };
      const batch = await startBatch([...Array.from({ length: 12 }, (_, n) => `line-${n}`), 'fails']);
      await eventually(async () => (await gateway.client.batches.retrieve(batch)).status === 'completed');
      return batch;
    },
    'batch-cancelled': async () => {
      upstream.reset();
      let release = () => {};
      const until = new Promise<void>((resolve) => {
        release = resolve;
      });
      upstream.reply = () => ({ until, body: openaiCompletion('hi') });
      const batch = await startBatch(Array.from({ length: 20 }, (_, n) => `line-${n}`));
      await eventually(async () => upstream.received.length === 20);
      await gateway.fetch(`/v1/jobs/${batch}/pause`, { method: 'POST' });
      await gateway.client.batches.cancel(batch);
      release();
      await eventually(async () => (await gateway.client.batches.retrieve(batch)).status === 'cancelled');
      return batch;
    },
    'completion-cancelled': async () => {
      upstream.reply = () => ({ delayMs: 60_000 });
      upstream.reset();
      const abort = new AbortController();
      const before = (await gateway.json('/logs?limit=1')).data[0]?.id;
      gateway
        .fetch('/v1/chat/completions', {
          json: { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }] },
          signal: abort.signal,
        })
        .catch(() => {});
      await eventually(async () => upstream.received.length === 1);
      const id = (await gateway.json('/logs?limit=1')).data[0]?.id as string;
      expect(id).not.toBe(before);
      abort.abort();
      return id;
    },
  };

  it.each(Object.keys(scenarios))('%s replays', async (name) => {
    const id = (await scenarios[name]?.()) ?? '';
    const handle = client.workflow.getHandle(id);
    await handle.result().catch(() => {});
    const history = await handle.fetchHistory();
    await replay(history, id);
    if (!record) return;
    mkdirSync(HISTORIES, { recursive: true });
    writeFileSync(join(HISTORIES, `${name}.json`), `${JSON.stringify(JSON.parse(historyToJSON(history)), null, 1)}\n`);
  });
});
