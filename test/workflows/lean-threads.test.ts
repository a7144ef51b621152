import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion } from '../support/shapes.ts';

const upstream = new FixtureServer();
let gateway: TestGateway;
let connection: Connection;
let release = () => {};
beforeAll(async () => {
  await upstream.start();
  const until = new Promise<void>((resolve) => {
    release = resolve;
  });
  upstream.reply = () => ({ until, body: openaiCompletion('hi') });
  gateway = await startGateway(
    `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }
`,
    'configured',
  );
  connection = await Connection.connect({ address: inject('temporal') });
});
afterAll(async () => {
  await gateway.stop();
  await connection.close();
  await upstream.stop();
});

it('promises are followed in runs of the background only: their call stack is in the Temporal UI', async () => {
  const body = { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }] };
  const asking = gateway.fetch('/v1/chat/completions', { json: body });
  const { id: job } = await gateway.json('/v1/jobs', { json: { endpoint: '/v1/chat/completions', body } });
  await eventually(async () => upstream.received.length === 2);
  const client = new Client({ connection });
  const stackOf = (id: string) => client.workflow.getHandle(id).query<string>('__stack_trace');
  const { data } = await gateway.json('/logs?limit=2');
  const completion = data.find(({ id }: { id: string }) => id !== job).id;
  expect(await stackOf(job)).toMatch(/reserveAndCall/);
  expect(await stackOf(completion)).toBe('');
  release();
  expect((await asking).status).toBe(200);
});
