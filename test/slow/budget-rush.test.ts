import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../config/load.ts';
import { loadSettings } from '../../config/settings.ts';
import { costOf, NO_USAGE, type Price } from '../../domain/money.ts';
import { freePort } from '../../embedded/ports.ts';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import { ENCRYPTION_KEY } from '../support/databases.ts';
import { FixtureServer, type Received, type Reply } from '../support/fixture-server.ts';
import { eventually } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { HoldfastProcess } from '../support/process.ts';
import { openaiCompletion, openaiDeltas, openaiStream } from '../support/shapes.ts';

const MASTER_KEY = 'sk-master-for-tests';
const REQUESTS = 1_000;
const WORDS = ['all', 'is', 'well', 'in', 'here'];
const USAGE = { prompt_tokens: 10, completion_tokens: WORDS.length, total_tokens: 10 + WORDS.length };

/** A number from 0 to 99 that a request keeps however often it is made. */
const lotOf = (marker: string): number => Number.parseInt(marker.slice(-4), 16) % 100;

/** What the upstream did with the calls of one request. */
interface Upstream {
  calls: number;
  /** Answered to the end, and so billed by what it reported. */
  answered: number;
}

describe.skipIf(inject('postgres') === null || inject('redis') === null)('a thousand requests at once', () => {
  const upstream = new FixtureServer();
  const seen = new Map<string, Upstream>();
  const processes: HoldfastProcess[] = [];
  const team = `team-${crypto.randomUUID()}`;
  let dir: string;
  let db: Sql;
  let url: string;
  let key: string;
  let price: Price;
  let startWorker: () => HoldfastProcess;

  /** Answers, fails once and then answers, is slow, or breaks a stream off, as the request's lot has it. */
  function reply({ body }: Received): Reply {
    const marker = body.messages[0].content as string;
    const known = seen.get(marker) ?? { calls: 0, answered: 0 };
    seen.set(marker, known);
    known.calls += 1;
    const lot = lotOf(marker);
    if (lot < 10 && known.calls === 1) return { status: 503, body: { error: { message: 'overloaded' } } };
    if (lot < 15) return { status: 400, body: { error: { message: 'no' } } };
    if (lot < 20 && body.stream) return { chunks: openaiDeltas(WORDS.slice(0, 3)), cut: true };
    known.answered += 1;
    const pace = lot < 50 ? { delayMs: 1_500, intervalMs: 50 } : {};
    return body.stream
      ? { chunks: openaiStream(WORDS), ...pace }
      : { body: openaiCompletion(WORDS.join(' '), USAGE), ...pace };
  }

  const run = (args: readonly string[], env: Record<string, string>) => {
    const started = new HoldfastProcess(args, env, dir);
    processes.push(started);
    return started;
  };
  const admin = async (path: string, json?: unknown) => {
    const response = await fetch(url + path, {
      ...(json !== undefined && { method: 'POST', body: JSON.stringify(json) }),
      headers: { authorization: `Bearer ${MASTER_KEY}`, 'content-type': 'application/json' },
    });
    // biome-ignore lint/suspicious/noExplicitAny: the test looks into the answer
    return (await response.json()) as any;
  };

  beforeAll(async () => {
    await upstream.start();
    upstream.reply = reply;
    dir = mkdtempSync(join(tmpdir(), 'holdfast-rush-'));
    const yaml = `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }\nretry: { retry_delay: 0.1 }\nbudgets: { sweep_interval: 0 }\n`;
    writeFileSync(join(dir, 'gateway.yaml'), yaml);
    const config = loadConfig(loadSettings({ GATEWAY_CONFIG: join(dir, 'gateway.yaml') }), {});
    price = config.catalogue.find('gpt-5-mini')?.price as Price;
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const env = {
      GATEWAY_CONFIG: 'gateway.yaml',
      GATEWAY_PORT: String(port),
      GATEWAY_LOG_LEVEL: 'error',
      GATEWAY_MASTER_KEY: MASTER_KEY,
      GATEWAY_ENCRYPTION_KEY: ENCRYPTION_KEY,
      DATABASE_URL: inject('postgres') ?? '',
      REDIS_URL: inject('redis') ?? '',
      TEMPORAL_ADDRESS: inject('temporal'),
      TEMPORAL_TASK_QUEUE: `rush-${crypto.randomUUID()}`,
    };
    expect(await run(['migrate'], env).ended).toBe(0);
    run(['api'], env);
    startWorker = () => run(['worker'], env);
    startWorker();
    startWorker();
    await eventually(async () => (await fetch(`${url}/health/ready`).catch(() => undefined))?.ok, 60_000);
    key = (await admin('/config/virtual-keys', { name: 'rush', team })).key;
    db = connectDatabase({ url: inject('postgres') ?? '', maxConnections: 2, onError: () => {} });
  });
  afterAll(async () => {
    for (const started of processes) await started.kill('SIGKILL');
    await db?.destroy();
    await upstream.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const ask = async (marker: string): Promise<number | string> => {
    const lot = lotOf(marker);
    const abort = new AbortController();
    // Every tenth caller hangs up somewhere on the way, also in the middle of a stream.
    if (lot % 10 === 7) setTimeout(() => abort.abort(), lot * 100);
    try {
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        signal: abort.signal,
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          model: 'gpt-5-mini',
          max_tokens: 10,
          stream: lot % 2 === 1,
          metadata: { marker },
          messages: [{ role: 'user', content: marker }],
        }),
      });
      const text = await response.text();
      if (text.includes('event: error')) return 'cut';
      // An overloaded gateway sends callers away before it took anything from them.
      return response.status === 503 ? `503 ${JSON.parse(text).error.code}` : response.status;
    } catch (error) {
      if (abort.signal.aborted) return 'hung up';
      throw error;
    }
  };

  it('against a budget for a hundred of them spend no more, leave nothing reserved, and agree with the upstream', async () => {
    const one = costOf({ ...NO_USAGE, inputTokens: USAGE.prompt_tokens, outputTokens: WORDS.length }, price);
    const scope = { type: 'team', id: team };
    const { id } = await admin('/api/v1/budgets', { scope, limit_usd: (100 * one) / 1e9 });
    const markers = Array.from({ length: REQUESTS }, () => crypto.randomUUID());

    const answers = Promise.all(markers.map(ask));
    const slow = () =>
      [...seen].filter(([marker, { answered }]) => lotOf(marker) >= 20 && lotOf(marker) < 50 && answered > 0);
    await eventually(async () => slow().length >= 5);
    for (const worker of processes.slice(2)) await worker.kill('SIGKILL');
    startWorker();
    const statuses = await answers;

    const open = () =>
      sql<{ n: number }>`SELECT count(*) AS n FROM llm_requests WHERE team = ${team} AND completed_at IS NULL`;
    await eventually(async () => (await open().execute(db)).rows[0]?.n === 0, 60_000);

    const budget = await admin(`/api/v1/budgets/${id}`);
    expect(budget.reserved_usd).toBe(0);
    expect(budget.spent_usd).toBeLessThanOrEqual(budget.limit_usd);
    // How many get in depends on how many are under way at once, each set aside at its most.
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(0);
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(100);
    expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(0);
    const expected = new Set<number | string>([200, 400, 409, 429, 502, '503 service_unavailable', 'cut', 'hung up']);
    expect(statuses.filter((status) => !expected.has(status))).toEqual([]);

    const { rows: ledger } = await sql<{
      marker: string;
      cost: number;
      attempts: { state: string; cost: number; estimated: boolean }[];
    }>`
      SELECT r.parameters->'metadata'->>'marker' AS marker, r.cost_nanos AS cost, coalesce(json_agg(json_build_object(
        'state', a.state, 'cost', a.cost_nanos, 'estimated', a.usage_estimated)) FILTER (WHERE a.n IS NOT NULL), '[]') AS attempts
      FROM llm_requests r LEFT JOIN attempts a ON a.request_id = r.id
      WHERE r.team = ${team} GROUP BY r.id`.execute(db);
    const spent = ledger.reduce((sum, { cost }) => sum + cost, 0);
    expect(Math.round(budget.spent_usd * 1e9)).toBe(spent);
    const { rows: counters } = await sql<{ spent: number; reserved: number }>`
      SELECT spent_nanos AS spent, reserved_nanos AS reserved FROM spend_counters
      WHERE scope_type = 'key' AND scope_id IN (SELECT id FROM virtual_keys WHERE team = ${team})`.execute(db);
    expect(counters).toEqual([{ spent, reserved: 0 }]);

    let unknown = 0;
    for (const { marker, cost, attempts } of ledger) {
      const { calls = 0, answered = 0 } = seen.get(marker) ?? {};
      const lost = attempts.filter(({ state }) => state === 'unknown' || state === 'cancelled').length;
      unknown += lost;
      expect(cost).toBe(attempts.reduce((sum, attempt) => sum + attempt.cost, 0));
      expect(attempts.length).toBeGreaterThanOrEqual(calls);
      expect(attempts.length - calls).toBeLessThanOrEqual(lost);
      if (lost === 0 && !attempts.some(({ estimated }) => estimated)) expect(cost).toBe(answered * one);
    }
    expect(ledger.reduce((sum, { attempts }) => sum + attempts.length, 0)).toBeGreaterThanOrEqual(
      upstream.count(/chat/),
    );
    expect(unknown).toBeGreaterThan(0);
    console.log(
      `  ${statuses.filter((status) => status === 200).length} answered, ${unknown} unknown or cancelled calls, ` +
        `${((100 * spent) / 1e9 / budget.limit_usd).toFixed(1)} % of the budget spent, ${upstream.count(/chat/)} upstream calls`,
    );
  }, 180_000);
});
