import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion } from '../support/shapes.ts';

describe('the queue of background work', () => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  let connection: Connection;
  let client: Client;
  let release = () => {};
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini }
background: { max_calls: 1 }
`,
      'configured',
    );
    connection = await Connection.connect({ address: inject('temporal') });
    client = new Client({ connection });
  });
  afterAll(async () => {
    await gateway.stop();
    await connection.close();
    await upstream.stop();
  });
  beforeEach(() => {
    upstream.reset();
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    upstream.reply = () => ({ until, body: openaiCompletion('hi') });
  });

  const newKey = async (): Promise<string> =>
    (await gateway.json('/config/virtual-keys', { json: { name: 'k', team: crypto.randomUUID() } })).key;
  const submit = async (name: string, key: string, priority = 3): Promise<string> => {
    const body = { model: 'gpt-5-mini', messages: [{ role: 'user', content: name }] };
    const { id } = await gateway.json('/v1/jobs', { key, json: { endpoint: '/v1/chat/completions', body, priority } });
    return id;
  };
  /** Waits until a job's call is in the queue. */
  const queued = (id: string) =>
    eventually(async () => {
      const { events } = await client.workflow.getHandle(id).fetchHistory();
      return events?.some((event) => event.activityTaskScheduledEventAttributes);
    });
  const order = () => upstream.received.map(({ body }) => body.messages[0].content as string);
  const done = (jobs: number) => eventually(async () => upstream.received.length === jobs);

  it('makes as many calls at once as it may, and the rest wait as queued', async () => {
    const key = await newKey();
    const first = await submit('first', key);
    await done(1);
    const ids = [first, await submit('second', key)];
    await queued(ids[1] ?? '');
    const states = await Promise.all(ids.map(async (id) => (await gateway.json(`/v1/jobs/${id}`)).status));
    expect(states).toEqual(['running', 'queued']);
    release();
    await done(2);
  });

  /** Places are not exact: a call may be handed out before the next one is in the queue. */
  const meanPlaceOf = (name: string): number => {
    const places = order().flatMap((asked, place) => (asked === name ? [place] : []));
    return places.reduce((sum, place) => sum + place, 0) / places.length;
  };
  const submitMany = async (count: number, name: string, key: string, priority?: number) => {
    const ids: string[] = [];
    for (let n = 0; n < count; n += 1) ids.push(await submit(name, key, priority));
    await Promise.all(ids.map(queued));
  };

  it('is shared between tenants: who comes later with little does not wait for all of who had much', async () => {
    const [much, little] = [await newKey(), await newKey()];
    await submit('blocker', much);
    await done(1);
    await submitMany(30, 'much', much);
    await submitMany(8, 'little', little);
    release();
    await done(39);
    expect(meanPlaceOf('little')).toBeLessThan(meanPlaceOf('much'));
  });

  it('takes the urgent first', async () => {
    const key = await newKey();
    await submit('blocker', key);
    await done(1);
    await submitMany(30, 'patient', key, 4);
    await submitMany(8, 'urgent', key, 1);
    release();
    await done(39);
    expect(meanPlaceOf('urgent')).toBeLessThan(meanPlaceOf('patient') / 2);
  });
});
