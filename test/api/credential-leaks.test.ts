import { Client, Connection } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import { sql } from 'kysely';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import { FixtureServer, type Received, type Reply, sse } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { openaiCompletion, openaiDeltas, openaiStream } from '../support/shapes.ts';

/** Provider keys as nobody would recognise them. */
const plant = (name: string) => `Zq9.${name}~${crypto.randomUUID()}+odd/chars=`;
const planted = {
  config: plant('config'),
  table: plant('table'),
  rotated: plant('rotated'),
  team: plant('team'),
  mapped: plant('mapped'),
  aws: plant('aws').replaceAll('~', '-'),
};

const upstream = new FixtureServer();
const team = crypto.randomUUID();
const runIds: string[] = [];
const answers: string[] = [];
let log = '';
let gateway: TestGateway;
let connection: Connection;
let client: Client;
let db: Sql;
let member: { id: string; key: string };
let owner: { id: string; key: string };

/** Does what the last message says, and quotes the caller's key wherever there is room. */
function reply({ path, headers, body }: Received): Reply {
  const key = path.includes('/model/') ? planted.aws : String(headers.authorization).replace('Bearer ', '');
  const message = `You sent ${key}, or ${Object.values(planted).includes(key) ? key : 'an unknown key'}?`;
  const told = JSON.stringify(body?.messages ?? '');
  const status = Number(/status (\d+)/.exec(told)?.[1] ?? 200);
  const error = { message, type: 'x', code: null, param: key };
  if (status !== 200) return { status, body: { message, error }, headers: { 'retry-after': '1', 'x-echo': 'none' } };
  if (told.includes('broken')) return { chunks: [...openaiDeltas(['Hel']), ...sse({ error })] };
  if (told.includes('cut')) return { chunks: openaiDeltas(['Hel']), cut: true };
  return body?.stream ? { chunks: openaiStream(['hi']) } : { body: openaiCompletion('hi') };
}

beforeAll(async () => {
  await upstream.start();
  upstream.reply = reply;
  const write = (line: string) => {
    log += line;
  };
  const logger = pino({ level: 'trace' }, { write });
  gateway = await startGateway(
    `
providers:
  plain: { type: openai, base_url: "${upstream.url}/v1", api_key: "${planted.config}", default_model: m, max_retries: 1 }
  claude: { type: anthropic, base_url: "${upstream.url}", api_key: "${planted.config}", default_model: m, max_retries: 1 }
  safe: { type: openai, base_url: "${upstream.url}/v1", api_key: stored, default_model: m, max_retries: 1 }
  cloud: { type: bedrock, region: eu-west-1, endpoint: "${upstream.url}", model_id: m, max_retries: 1 }
fallback: { enabled: false }
`,
    'configured',
    { logger },
  );
  db = connectDatabase({
    url: inject('postgres') ?? inject('embeddedPostgres'),
    maxConnections: 1,
    onError: () => {},
  });
  connection = await Connection.connect({ address: inject('temporal') });
  client = new Client({ connection });
});
afterAll(async () => {
  await gateway.stop();
  await connection.close();
  await db.destroy();
  await upstream.stop();
});

/** Keeps what the gateway says. */
async function told(response: Response): Promise<string> {
  const text = await response.text();
  answers.push(`${JSON.stringify([...response.headers])}\n${text}`);
  return text;
}
const admin = async (path: string, json: object, method = 'POST') =>
  JSON.parse(await told(await gateway.fetch(path, { method, json })));
async function ask(model: string, content: string, { key, stream = false }: { key?: string; stream?: boolean } = {}) {
  const json = { model, stream, max_tokens: 5, messages: [{ role: 'user', content }] };
  const response = await gateway.fetch('/v1/chat/completions', { json, ...(key && { key }) });
  const id = response.headers.get('x-holdfast-run-id');
  if (id) runIds.push(id);
  await told(response);
  return response.status;
}

const forms = (key: string) => [key, encodeURIComponent(key), Buffer.from(key).toString('hex'), key.slice(0, -8)];
function expectNoKey(where: string, text: string): void {
  const seen = Object.entries(planted).filter(([, key]) => forms(key).some((form) => text.includes(form)));
  expect(
    seen.map(([name]) => name),
    where,
  ).toEqual([]);
}

describe('provider keys, used in calls that succeed, fail and break,', () => {
  beforeAll(async () => {
    const { id } = await admin('/config/providers/safe/keys', { key: planted.table });
    await admin(`/config/providers/safe/keys/${id}`, { key: planted.rotated }, 'PATCH');
    await admin('/config/providers/safe/keys', { key: planted.team, team });
    await admin('/config/providers/cloud/keys', { key: `AKIALEAKTEST00001:${planted.aws}` });
    member = await admin('/config/virtual-keys', { name: 'member', team });
    const mappedProviderKeys = [{ providerId: 'safe', apiKey: planted.mapped }];
    owner = await admin('/config/virtual-keys', { name: 'owner', mappedProviderKeys });
    // What is refused on the way in quotes nothing either.
    await admin('/config/providers/cloud/keys', { key: planted.aws });
    await admin('/config/providers/nobody/keys', { key: planted.table });
    await admin('/config/providers/safe/keys', { key: planted.table, weight: 'heavy' });
    const wrong = [{ providerId: 'nobody', apiKey: planted.mapped }];
    await admin('/config/virtual-keys', { name: 'wrong', mappedProviderKeys: wrong });

    await eventually(async () => (await ask('safe/m', 'fine', { key: owner.key })) === 200);
    const callers = [{}, { key: member.key }, { key: owner.key }];
    const scenes = [
      'fine',
      'broken',
      'cut',
      ...[400, 404, 413, 429, 500, 529, 403, 402, 401].map((n) => `status ${n}`),
    ];
    for (const scene of scenes) {
      await Promise.all(
        [false, true].flatMap((stream) => [
          ...callers.map((caller) => ask('safe/m', scene, { ...caller, stream })),
          ...['plain/m', 'claude/m', 'cloud/m'].map((model) => ask(model, scene, { stream })),
        ]),
      );
    }
    for (const key of Object.values(planted).filter((key) => key !== planted.aws && key !== planted.table)) {
      expect(upstream.received.some(({ headers }) => headers.authorization === `Bearer ${key}`)).toBe(true);
    }
    await Promise.all(
      runIds.map((id) =>
        client.workflow
          .getHandle(id)
          .result()
          .catch(() => {}),
      ),
    );
  }, 120_000);

  it('are in no answer', async () => {
    expect(answers.join('\n')).toContain('[redacted]');
    expectNoKey('an answer', answers.join('\n'));
  });

  it('are in nothing that the gateway tells about itself', async () => {
    const paths = ['/logs?limit=500', '/metrics/usage', '/providers', '/v1/models', '/health', '/openapi.json'];
    const config = ['/config/providers', '/config/virtual-keys?limit=500', `/config/virtual-keys/${owner.id}`];
    const runs = runIds.flatMap((id) => [`/logs/${id}`, `/v1/chat/completions/${id}`]);
    await Promise.all(
      [...paths, ...config, ...runs].map(async (path) => expectNoKey(path, await (await gateway.fetch(path)).text())),
    );
  });

  it('are in no log line', () => {
    expect(log).toMatch(/benched/);
    expect(log.length).toBeGreaterThan(10_000);
    expectNoKey('the log', log);
  });

  it('are in no history', async () => {
    expect(runIds.length).toBeGreaterThan(100);
    for (const id of runIds) {
      const { events } = await client.workflow.getHandle(id).fetchHistory();
      const payloads = JSON.stringify(
        (events ?? []).map((event) => temporal.api.history.v1.HistoryEvent.toObject(event as never, { bytes: String })),
      );
      const decoded = payloads.replace(/"data":"([A-Za-z0-9+/=]+)"/g, (_match, data: string) =>
        Buffer.from(data, 'base64').toString(),
      );
      expect(decoded).toContain(id);
      expectNoKey(`history of ${id}`, decoded);
    }
  });

  it('are in no row of the database', async () => {
    const { rows } = await sql<{ name: string }>`
      SELECT table_name AS name FROM information_schema.tables
      WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`.execute(db);
    expect(rows.map(({ name }) => name)).toContain('provider_keys');
    for (const { name } of rows) {
      const table = await sql<{ row: string }>`SELECT t::text AS row FROM ${sql.table(name)} t`.execute(db);
      expectNoKey(name, table.rows.map(({ row }) => row).join('\n'));
    }
  });
});
