import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readVersion } from '../../cli/version.ts';
import { freePort } from '../../embedded/ports.ts';
import { ENCRYPTION_KEY } from '../support/databases.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { HoldfastProcess } from '../support/process.ts';
import { openaiCompletion } from '../support/shapes.ts';

const MASTER_KEY = 'sk-master-for-tests';
const VERSION = readVersion();
const [OLD, NEW] = [`${VERSION}-1`, `${VERSION}-2`];
const available = inject('postgres') !== null && inject('redis') !== null;

describe.skipIf(!available)('workers of two versions beside each other', () => {
  const deployment = `test-${crypto.randomUUID()}`;
  const upstream = new FixtureServer();
  const processes: HoldfastProcess[] = [];
  let dir: string;
  let env: Record<string, string>;
  let url: string;
  let connection: Connection;
  let temporal: Client;

  const run = (args: readonly string[], extra: Record<string, string> = {}) => {
    const started = new HoldfastProcess(args, { ...env, ...extra }, dir);
    processes.push(started);
    return started;
  };
  /** Resolves once the worker knows on which build new runs begin. */
  const startWorker = async (build: string) => {
    const worker = run(['worker'], { GATEWAY_WORKER_BUILD: build });
    const said = await worker.says(/of version \S+; new runs begin on \S+(?=")/);
    await worker.says(/The worker polls/);
    return { worker, said };
  };
  const call = async (path: string, json?: unknown): Promise<Json> => {
    const response = await fetch(url + path, {
      method: json === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${MASTER_KEY}`, 'content-type': 'application/json' },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
    return response.json();
  };
  const body = { model: 'gpt-5-mini', max_tokens: 5000, messages: [{ role: 'user', content: 'hi' }] };
  const startJob = async (terms: object = {}): Promise<string> =>
    (await call('/v1/jobs', { endpoint: '/v1/chat/completions', body, ...terms })).id;
  const isIn = (id: string, status: string) =>
    eventually(async () => (await call(`/v1/jobs/${id}`)).status === status, 30_000);
  /** The builds that worked on a run, one after the other. */
  const buildsOf = async (id: string) => {
    const { events = [] } = await temporal.workflow.getHandle(id).fetchHistory();
    const done = (events ?? []).flatMap(({ workflowTaskCompletedEventAttributes: task }) => task ?? []);
    return [...new Set(done.map(({ deploymentVersion }) => deploymentVersion?.buildId))];
  };

  beforeAll(async () => {
    await upstream.start();
    connection = await Connection.connect({ address: inject('temporal') });
    temporal = new Client({ connection });
    dir = mkdtempSync(join(tmpdir(), 'holdfast-versions-'));
    writeFileSync(
      join(dir, 'gateway.yaml'),
      `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }\nspeculation: { enabled: false }\n`,
    );
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    env = {
      GATEWAY_CONFIG: 'gateway.yaml',
      GATEWAY_PORT: String(port),
      GATEWAY_MASTER_KEY: MASTER_KEY,
      GATEWAY_ENCRYPTION_KEY: ENCRYPTION_KEY,
      GATEWAY_WORKER_DEPLOYMENT: deployment,
      DATABASE_URL: inject('postgres') ?? '',
      REDIS_URL: inject('redis') ?? '',
      TEMPORAL_ADDRESS: inject('temporal'),
      TEMPORAL_TASK_QUEUE: deployment,
    };
    expect(await run(['migrate']).ended).toBe(0);
    await run(['api']).says(/The front door listens/);
  });
  afterAll(async () => {
    for (const started of processes) await started.kill('SIGKILL');
    await connection.close();
    await upstream.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  it('what began in the background finishes on its version, what is new begins on the newest', async () => {
    upstream.reply = () => ({ delayMs: 60_000 });
    const old = await startWorker('1');
    expect(old.said).toBe(`of version ${OLD}; new runs begin on ${OLD}`);
    // It waits for its limit to be raised.
    const waiting = await startJob({ max_cost_usd: 0.000001 });
    await isIn(waiting, 'budget_exceeded');
    const asking = call('/v1/chat/completions', body);
    await eventually(async () => upstream.received.length === 1);
    upstream.reply = () => ({ body: openaiCompletion('hi') });

    expect((await startWorker('2')).said).toBe(`of version ${NEW}; new runs begin on ${NEW}`);
    const job = await startJob();
    await isIn(job, 'completed');
    expect(await buildsOf(job)).toEqual([NEW]);
    const { searchAttributes } = await temporal.workflow.getHandle(job).describe();
    expect(searchAttributes.BuildIds).not.toContain(`unversioned:holdfast-${VERSION}`);

    await old.worker.kill('SIGKILL');
    // Nobody else may go on with the run that waits, and who starts again takes no new ones back.
    expect((await startWorker('1')).said).toBe(`of version ${OLD}; new runs begin on ${NEW}`);
    await call(`/v1/jobs/${waiting}/resume`, { max_cost_usd: 1 });
    await isIn(waiting, 'completed');
    expect(await buildsOf(waiting)).toEqual([OLD]);
    // A caller who waits is answered by whoever is there.
    expect(await buildsOf((await asking).id)).toEqual([OLD, NEW]);
  });
});
