import { Client, Connection } from '@temporalio/client';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatDuration } from '../../api/plugins/rate-limit-headers.ts';
import { RedisCounters } from '../../storage/counters/redis.ts';
import { FixtureServer, type Received, type Reply } from '../support/fixture-server.ts';
import { eventually, type Parts, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';
import { RedisServer } from '../support/redis-server.ts';
import { openaiCompletion, openaiDeltas, openaiStream } from '../support/shapes.ts';

const upstream = new FixtureServer();
beforeAll(() => upstream.start());
afterAll(() => upstream.stop());

const config = (rateLimit = '{ enabled: false }') => `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini, timeout: 30, max_retries: 1 }
fallback: { enabled: false }
rate_limit: ${rateLimit}
`;
const answer: Reply = { body: openaiCompletion('hi') };
const saying = ({ body }: Received): string => body.messages[0].content;

interface Ask {
  readonly model?: string;
  readonly say?: string;
  readonly headers?: Record<string, string>;
  readonly stream?: boolean;
  readonly signal?: AbortSignal;
}

/** What callers and administrators do in these tests. */
const using = (gateway: TestGateway) => ({
  makeKey: async (settings: Record<string, unknown> = {}): Promise<{ id: string; key: string }> =>
    gateway.json('/config/virtual-keys', { json: { name: 'test', ...settings } }),
  ask: (key: string, { model = 'gpt-5-mini', say = 'hi', headers = {}, stream = false, signal }: Ask = {}) =>
    gateway.fetch('/v1/chat/completions', {
      key,
      headers,
      ...(signal && { signal }),
      json: { model, max_tokens: 100, messages: [{ role: 'user', content: say }], stream },
    }),
  limit: (scope: string, json: Record<string, unknown>) =>
    gateway.fetch(`/api/v1/rate-limits/${scope}`, { json, method: 'PUT' }),
  unlimit: (scope: string) => gateway.fetch(`/api/v1/rate-limits/${scope}`, { method: 'DELETE' }),
});
const errorOf = async (response: Response) => ((await response.json()) as { error: Record<string, unknown> }).error;
const unique = () => crypto.randomUUID();
const waitFor = (seconds: number) => ({ 'x-holdfast-max-wait': String(seconds) });

/** Calls that stay upstream until they are let go. */
function holdUpstream(): { release(): void } {
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  upstream.reset();
  upstream.reply = () => ({ ...answer, until: gate });
  return { release };
}

describe.each<Parts>(['embedded', 'configured'])('with %s parts', (parts) => {
  let gateway: TestGateway;
  let use: ReturnType<typeof using>;
  beforeAll(async () => {
    gateway = await startGateway(config(), parts);
    use = using(gateway);
  });
  afterAll(() => gateway.stop());

  describe('a limit', () => {
    it.concurrent.each(['key', 'user', 'team', 'project', 'model'])(
      'of a %s is kept, and gone when it is removed',
      async (type) => {
        upstream.reply = () => answer;
        const [team, project, user, name] = [unique(), unique(), unique(), unique()];
        const model = `openai/${name}`;
        const { id, key } = await use.makeKey({ team, project, user });
        const ids: Record<string, string> = { key: id, user, team, project, model: name };
        const scope = `${type}/${ids[type]}`;
        expect((await use.ask(key, { model })).status).toBe(200);
        expect((await use.limit(scope, { tokens_per_minute: 1 })).status).toBe(200);
        const refused = await eventually(async () => {
          const response = await use.ask(key, { model });
          return response.status === 429 && response;
        });
        expect(await errorOf(refused)).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' });
        expect((await use.unlimit(scope)).status).toBe(204);
        await eventually(async () => (await use.ask(key, { model })).status === 200);
      },
    );

    it('of concurrent requests refuses what is too much and nothing after it', async () => {
      const held = holdUpstream();
      const { key } = await use.makeKey({ rateLimit: { concurrent: 2 } });
      const running = [use.ask(key), use.ask(key)];
      await eventually(async () => upstream.received.length === 2);
      const refused = await use.ask(key);
      expect(refused.status).toBe(429);
      expect(refused.headers.get('retry-after')).toBe('1');
      expect(await errorOf(refused)).toMatchObject({ message: 'Rate limit reached: 2 requests at the same time.' });
      held.release();
      expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200]);
      await eventually(async () => (await use.ask(key)).status === 200);
    });

    it('of concurrent requests leaks no slot when requests fail, are cancelled or lose their callers', async () => {
      const SLOTS = 20;
      const team = unique();
      const { key } = await use.makeKey({ team });
      await use.limit(`team/${team}`, { concurrent_requests: SLOTS });
      const endings: Record<string, () => Reply> = {
        answered: () => answer,
        failed: () => ({ status: 500, body: { error: { message: 'no' } } }),
        cut: () => ({ chunks: openaiDeltas(['a']), cut: true }),
        // Ends only when its caller is gone.
        left: () => ({ chunks: openaiStream(Array.from({ length: 600 }, () => 'word ')), intervalMs: 100 }),
        gone: () => ({ ...answer, delayMs: 30_000 }),
      };
      const names = Object.keys(endings);
      upstream.reply = (request) => endings[saying(request)]?.() ?? answer;
      const one = async (i: number): Promise<number> => {
        const say = names[i % names.length] as string;
        const abort = new AbortController();
        const streams = say === 'cut' || say === 'left';
        // Every other one waits for a slot, the rest is refused while there is none.
        const headers = i % 2 === 0 ? waitFor(40) : {};
        const asking = use.ask(key, { say, headers, stream: streams, signal: abort.signal });
        if (say === 'gone') setTimeout(() => abort.abort(), 20 * (i % 50));
        const response = await asking;
        if (say !== 'left') await response.text();
        else await response.body?.getReader().read();
        abort.abort();
        return response.status;
      };
      const statuses = await Promise.all(Array.from({ length: 200 }, (_, i) => one(i).catch(() => 0)));
      expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(SLOTS);
      expect(statuses).toContain(429);
      expect(statuses).toContain(0);
      await eventually(async () => {
        const { data } = await gateway.json(`/logs?team=${team}&limit=500`);
        return data.length > 0 && data.every((row: { completed_at: string | null }) => row.completed_at !== null);
      }, 60_000);

      const held = holdUpstream();
      const all = Array.from({ length: SLOTS }, () => use.ask(key, { headers: waitFor(10) }));
      await eventually(async () => upstream.received.length === SLOTS);
      expect((await use.ask(key)).status).toBe(429);
      held.release();
      expect(new Set((await Promise.all(all)).map(({ status }) => status))).toEqual(new Set([200]));
      if (parts === 'configured') await noSlotIsHeld(`team:${team}:concurrent`, SLOTS);
    }, 180_000);
  });

  describe('the headers', () => {
    const headersOf = ({ headers }: Response) =>
      Object.fromEntries([...headers].filter(([name]) => name.startsWith('x-ratelimit-')));

    it('of an answer tell of the tightest limit', async () => {
      upstream.reply = () => answer;
      const team = unique();
      const { key } = await use.makeKey({ team, rateLimit: { rpm: 100, tpm: 10_000 } });
      await use.limit(`team/${team}`, { requests_per_minute: 40, tokens_per_minute: 90_000 });
      const response = await use.ask(key);
      expect(headersOf(response)).toEqual({
        'x-ratelimit-limit-requests': '40',
        'x-ratelimit-remaining-requests': '39',
        'x-ratelimit-reset-requests': expect.stringMatching(/^1m\d+s$|^2m0s$/),
        'x-ratelimit-limit-tokens': '10000',
        'x-ratelimit-remaining-tokens': expect.stringMatching(/^99\d\d$/),
        'x-ratelimit-reset-tokens': expect.stringMatching(/^1m\d+s$|^2m0s$/),
      });
    });

    it('are on streams and on refusals too', async () => {
      upstream.reply = () => ({ chunks: openaiStream(['a']) });
      const { key } = await use.makeKey({ rateLimit: { rpm: 50 } });
      const streamed = await use.ask(key, { stream: true });
      await streamed.text();
      expect(headersOf(streamed)).toMatchObject({ 'x-ratelimit-remaining-requests': '49' });

      const { key: poor } = await use.makeKey({ rateLimit: { rpm: 1 } });
      upstream.reply = () => answer;
      const refused = await eventually(async () => {
        const response = await use.ask(poor);
        return response.status === 429 && response;
      });
      expect(headersOf(refused)).toMatchObject({
        'x-ratelimit-limit-requests': '1',
        'x-ratelimit-remaining-requests': '0',
      });
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    });

    it('are left out where nothing is limited', async () => {
      upstream.reply = () => answer;
      const { key } = await use.makeKey();
      expect(headersOf(await use.ask(key))).toEqual({});
    });
  });

  describe('a caller who would rather wait', () => {
    it('is admitted when there is room, without a call in between', async () => {
      const held = holdUpstream();
      const { key } = await use.makeKey({ rateLimit: { concurrent: 1 } });
      const first = use.ask(key);
      await eventually(async () => upstream.received.length === 1);
      const waiting = use.ask(key, { headers: waitFor(30) });
      const impatient = await use.ask(key, { headers: waitFor(0.4) });
      expect(impatient.status).toBe(429);
      expect(impatient.headers.get('retry-after')).toBe('1');
      expect(upstream.received).toHaveLength(1);
      held.release();
      expect((await first).status).toBe(200);
      expect((await waiting).status).toBe(200);
      expect(upstream.received).toHaveLength(2);
    });

    it('is not kept waiting for what never fits', async () => {
      const { key } = await use.makeKey({ rateLimit: { tpm: 50 } });
      const started = Date.now();
      const refused = await use.ask(key, { say: 'x'.repeat(1_000), headers: waitFor(50) });
      expect(refused.status).toBe(429);
      expect(Date.now() - started).toBeLessThan(10_000);
    });

    it('can hang up while waiting, and nothing is called', async () => {
      const held = holdUpstream();
      const { key } = await use.makeKey({ rateLimit: { concurrent: 1 } });
      const first = use.ask(key);
      await eventually(async () => upstream.received.length === 1);
      const abort = new AbortController();
      const waiting = use.ask(key, { headers: waitFor(50), signal: abort.signal }).catch(() => 'gone');
      const id = await eventually(async () => {
        const { data } = await gateway.json('/logs?limit=2');
        return data.find(({ state }: { state: string }) => state === 'queued')?.id as string | undefined;
      });
      abort.abort();
      expect(await waiting).toBe('gone');
      await eventually(async () => (await gateway.json(`/logs/${id}`)).state === 'cancelled');
      held.release();
      expect((await first).status).toBe(200);
      expect(upstream.received).toHaveLength(1);
    });

    it('goes before batch work', async () => {
      const held = holdUpstream();
      const { key } = await use.makeKey({ rateLimit: { concurrent: 1 } });
      const first = use.ask(key, { say: 'first' });
      await eventually(async () => upstream.received.length === 1);
      const batch = { ...waitFor(30), 'x-holdfast-priority': 'batch' };
      const later = [0, 1, 2].map(() => use.ask(key, { say: 'batch', headers: batch }));
      await eventually(async () => {
        const { data } = await gateway.json('/logs?limit=4');
        return data.filter(({ state }: { state: string }) => state === 'queued').length === 3;
      });
      const sooner = use.ask(key, { say: 'interactive', headers: waitFor(30) });
      await eventually(async () => {
        const { data } = await gateway.json('/logs?limit=5');
        return data.filter(({ state }: { state: string }) => state === 'queued').length === 4;
      });
      // It is in the queue once it has been refused for the first time.
      const connection = await Connection.connect({ address: inject('temporal') });
      const { data } = await gateway.json('/logs?limit=1');
      const handle = new Client({ connection }).workflow.getHandle(data[0].id);
      await eventually(async () =>
        (await handle.describe()).raw.pendingActivities?.some(({ lastFailure }) => lastFailure),
      );
      await connection.close();
      held.release();
      await Promise.all([first, sooner, ...later]);
      expect(upstream.received.map(saying)).toEqual(['first', 'interactive', 'batch', 'batch', 'batch']);
    });

    it.each([
      [{ 'x-holdfast-max-wait': 'long' }, 'x-holdfast-max-wait'],
      [{ 'x-holdfast-priority': 'urgent' }, 'x-holdfast-priority'],
    ])('is told what is wrong with %j', async (headers, param) => {
      const { key } = await use.makeKey();
      const response = await use.ask(key, { headers });
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ param });
    });
  });

  it('the priority is Temporal’s too', async () => {
    upstream.reply = () => answer;
    const { key } = await use.makeKey();
    const connection = await Connection.connect({ address: inject('temporal') });
    const priorityOf = async (headers: Record<string, string>) => {
      const run = (await use.ask(key, { headers })).headers.get('x-holdfast-run-id') ?? '';
      const { events } = await new Client({ connection }).workflow.getHandle(run).fetchHistory();
      return events?.[0]?.workflowExecutionStartedEventAttributes?.priority?.priorityKey;
    };
    expect(await priorityOf({})).toBe(1);
    expect(await priorityOf({ 'x-holdfast-priority': 'batch' })).toBe(5);
    await connection.close();
  });

  it('the administrator sets, lists, pages through and removes limits', async () => {
    const organisation = unique();
    const made = await use.limit(`organisation/${organisation}`, { requests_per_minute: 7, concurrent_requests: 3 });
    expect(await made.json()).toMatchObject({
      scope_type: 'organisation',
      scope_id: organisation,
      requests_per_minute: 7,
      tokens_per_minute: null,
      concurrent_requests: 3,
    });
    const replaced = await use.limit(`organisation/${organisation}`, { tokens_per_minute: 9 });
    expect(await replaced.json()).toMatchObject({ requests_per_minute: null, tokens_per_minute: 9 });
    const model = encodeURIComponent(`meta/${unique()}`);
    await use.limit(`model/${model}`, { tokens_per_minute: 9 });
    const filtered = await gateway.json(`/api/v1/rate-limits?scope_type=model&scope_id=${model}`);
    expect(filtered.data).toMatchObject([{ scope_type: 'model', scope_id: decodeURIComponent(model) }]);

    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const after: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page = await gateway.json(`/api/v1/rate-limits?limit=3${after}`);
      for (const row of page.data) seen.push(`${row.scope_type}/${row.scope_id}`);
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toContain(`organisation/${organisation}`);
    expect(seen).toContain(`model/${decodeURIComponent(model)}`);

    expect((await use.unlimit(`organisation/${organisation}`)).status).toBe(204);
    expect((await use.unlimit(`organisation/${organisation}`)).status).toBe(404);
    expect((await use.unlimit(`model/${model}`)).status).toBe(204);
    expect((await use.limit('team/x', {})).status).toBe(400);
    expect((await use.limit('team/x', { requests_per_minute: 0 })).status).toBe(400);
    expect((await use.limit('planet/x', { requests_per_minute: 1 })).status).toBe(400);
    const { key } = await use.makeKey();
    expect((await gateway.fetch('/api/v1/rate-limits', { key })).status).toBe(403);
  });
});

async function noSlotIsHeld(name: string, limit: number): Promise<void> {
  const redis = new Redis(inject('redis') ?? '');
  const counters = new RedisCounters(redis);
  await eventually(async () => {
    const [status] = await counters.status([{ name, kind: 'concurrent', limit, cost: 1 }]);
    return status?.remaining === limit;
  });
  redis.disconnect();
}

describe('the limits of the config', () => {
  it('are for keys that have none of their own', async () => {
    const gateway = await startGateway(config('{ enabled: true, requests_per_minute: 1, tokens_per_minute: 100000 }'));
    upstream.reply = () => answer;
    const use = using(gateway);
    const { key } = await use.makeKey();
    await eventually(async () => (await use.ask(key)).status === 429);
    const { key: own } = await use.makeKey({ rateLimit: { rpm: 50 } });
    expect((await use.ask(own)).headers.get('x-ratelimit-limit-requests')).toBe('50');
    await gateway.stop();
  });
});

describe.skipIf(inject('redis') === null)('without Redis', () => {
  it('requests with limits go on, or wait and are refused, as the config says; all recovers by itself', async () => {
    const redis = await new RedisServer().start();
    const [open, closed] = await Promise.all(
      ['open', 'closed'].map((when) =>
        startGateway(config(`{ when_unavailable: ${when} }`), 'configured', { redisUrl: redis.url }),
      ),
    );
    if (!open || !closed) throw new Error('unreachable');
    upstream.reply = () => answer;
    const { key } = await using(open).makeKey({ rateLimit: { rpm: 1_000, concurrent: 100 } });
    const { key: unlimited } = await using(open).makeKey();
    const asked = (gateway: TestGateway, k = key) => using(gateway).ask(k);
    expect((await asked(closed)).headers.get('x-ratelimit-limit-requests')).toBe('1000');

    await redis.stop();
    const through = await asked(open);
    expect(through.status).toBe(200);
    expect(through.headers.has('x-ratelimit-limit-requests')).toBe(false);
    const refused = await asked(closed);
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('2');
    expect(await errorOf(refused)).toMatchObject({ code: 'service_unavailable' });
    expect((await asked(closed, unlimited)).status).toBe(200);

    // One that comes in while Redis is away is served when it is back in time.
    const early = using(closed).ask(key, { headers: waitFor(30) });
    await redis.start();
    expect((await early).status).toBe(200);
    await eventually(async () => (await asked(open)).headers.has('x-ratelimit-limit-requests'));
    expect((await asked(closed)).status).toBe(200);
    await Promise.all([open.stop(), closed.stop()]);
    await redis.stop();
  }, 120_000);
});

describe('a duration', () => {
  it.each([
    [0, '0s'],
    [20, '20ms'],
    [1_000, '1s'],
    [59_100, '1m0s'],
    [360_000, '6m0s'],
  ])('of %i ms is written as OpenAI does: %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});
