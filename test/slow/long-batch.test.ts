import { Client, Connection } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { workflowBundle } from '../../workers/worker.ts';
import { jsonl } from '../support/batches.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion } from '../support/shapes.ts';

/** More than one run's history takes. */
const LINES = 700;
/** Temporal warns here. */
const MAX_EVENTS = 10_240;

describe('a batch that is longer than a history', () => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  beforeAll(async () => {
    await upstream.start();
    const openai = `{ type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }`;
    gateway = await startGateway(`providers:\n  openai: ${openai}\nretry: { retry_delay: 0.01 }\n`, 'configured');
  });
  afterAll(async () => {
    await gateway.stop();
    await upstream.stop();
  });

  it('continues as a new run, calls every line once, and replays', async () => {
    // The ends come in another order than the beginnings.
    upstream.reply = () => ({ delayMs: Math.random() * 50, body: openaiCompletion('hi') });
    const lines = Array.from({ length: LINES }, (_, i) => ({
      custom_id: `line-${i}`,
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model: 'gpt-5-mini', max_tokens: 50, messages: [{ role: 'user', content: `line-${i}` }] },
    }));
    const file = await toFile(jsonl(...lines), 'in.jsonl');
    const { id: input_file_id } = await gateway.client.files.create({ file, purpose: 'batch' });
    const request = { input_file_id, endpoint: '/v1/chat/completions', completion_window: '24h' } as const;
    const { id } = await gateway.client.batches.create(request);
    const batch = await eventually(async () => {
      const found = await gateway.client.batches.retrieve(id);
      return found.status === 'completed' && found;
    }, 90_000);
    expect(batch.request_counts).toEqual({ total: LINES, completed: LINES, failed: 0 });
    expect(upstream.received.map(({ body }) => body.messages[0].content).sort()).toEqual(
      lines.map(({ custom_id }) => custom_id).sort(),
    );

    const connection = await Connection.connect({ address: inject('temporal') });
    const { workflow } = new Client({ connection });
    // The list of workflows is a little behind.
    const runs = await eventually(async () => {
      const found: string[] = [];
      for await (const { runId } of workflow.list({ query: `WorkflowId = "${id}"` })) found.push(runId);
      return found.length > 1 && found;
    });
    for (const run of runs) {
      const history = await workflow.getHandle(id, run).fetchHistory();
      expect(history.events?.length).toBeLessThan(MAX_EVENTS);
      await Worker.runReplayHistory({ workflowBundle: workflowBundle() }, history, id);
    }
    await connection.close();
  }, 180_000);
});
