import { pino } from 'pino';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CallFailed } from '../../calls/call-failed.ts';
import { Calls } from '../../calls/calls.ts';
import { Credentials } from '../../calls/credentials.ts';
import { ProviderBuckets } from '../../calls/provider-buckets.ts';
import type { ErrorCode } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import type { KeyScope, TargetCall } from '../../domain/model-call.ts';
import type { ProviderAdapter, ProviderCall } from '../../providers/adapter.ts';
import { ProviderError } from '../../providers/errors.ts';
import { createCipher } from '../../storage/cipher.ts';
import { MemoryBuckets } from '../../storage/counters/memory-buckets.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { Processes } from '../../storage/postgres/processes.ts';
import { type NewProviderKey, ProviderKeys } from '../../storage/postgres/provider-keys.ts';
import { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import {
  callStreams,
  ENCRYPTION_KEY,
  insertRequest,
  KEY_SETTINGS,
  moneyOf,
  useDatabase,
} from '../support/databases.ts';
import { answers, scriptedAdapter } from '../support/scripted-adapter.ts';

const forever = new AbortController().signal;
const logger = pino({ level: 'silent' });
const cipher = createCipher(ENCRYPTION_KEY);

const database = useDatabase();
let db: Sql;
let providerKeys: ProviderKeys;
/** Every test has a provider of its own. */
let provider: string;
beforeAll(() => {
  db = database.db;
  providerKeys = new ProviderKeys(db, cipher);
});
beforeEach(() => {
  provider = `p-${crypto.randomUUID()}`;
});

const add = async (secret: string, overrides: Partial<NewProviderKey> = {}): Promise<string> => {
  const key = { provider, region: null, team: null, virtualKeyId: null, weight: 1, hint: '', ...overrides };
  return (await providerKeys.create({ ...key, secret })).id;
};
const virtualKey = async () => (await new VirtualKeys(db).create(KEY_SETTINGS)).entity.id;

/** What a provider makes of each key: an answer, or an error. What is not named is answered. */
type Verdicts = Readonly<Record<string, ProviderError | undefined>>;

function adapterWith(verdicts: Verdicts | (() => Verdicts), overrides: Partial<ProviderAdapter> = {}) {
  const used: string[] = [];
  const decide = async function* ({ credential, ...call }: ProviderCall) {
    const key = credential && 'apiKey' in credential ? credential.apiKey : 'configured';
    used.push(key);
    const error = (typeof verdicts === 'function' ? verdicts() : verdicts)[key];
    if (error) throw error;
    yield* answers(['ok'])(call);
  };
  const { region: _nowhere, ...adapter } = scriptedAdapter(decide);
  return { adapter: { ...adapter, name: provider, ...overrides }, used };
}

async function startProcess(adapter: ProviderAdapter, random?: () => number) {
  const processId = newId('proc');
  await new Processes(db).renew(processId);
  const credentials = new Credentials({ providerKeys, logger, ...(random && { random }) });
  const calls = new Calls({
    attempts: new Attempts(db),
    ...moneyOf(db),
    credentials,
    buckets: new ProviderBuckets({ buckets: new MemoryBuckets(), limitsOf: () => ({}), logger }),
    bodies: new Bodies(db, cipher),
    providers: new Map([[provider, adapter]]),
    streams: callStreams(db),
    processId,
    logger,
  });
  return { calls, credentials };
}

async function newCall(overrides: Partial<TargetCall> = {}): Promise<TargetCall> {
  const body = new Bodies(db, cipher).seal({ messages: [{ role: 'user', content: newId('chatcmpl') }] });
  return {
    requestId: await insertRequest(db, { body }),
    bodyRef: body.ref,
    stream: false,
    resumable: false,
    targetIndex: 0,
    hasNextTarget: false,
    retryDelayMs: 1_000,
    deadlineAt: Date.now() + 60_000,
    target: {
      provider,
      model: 'm',
      maxAttempts: 3,
      timeoutMs: 60_000,
      maxOutputTokens: 100,
      price: null,
      maxCostNanos: 1_000,
    },
    ...overrides,
  };
}

/** Resolves with the error that the call ended with. */
async function run(calls: Calls, call: TargetCall): Promise<CallFailed | undefined> {
  try {
    await calls.run(call, forever);
    return undefined;
  } catch (error) {
    if (error instanceof CallFailed) return error;
    throw error;
  }
}
const journal = (call: TargetCall) =>
  db
    .selectFrom('attempts')
    .select(['n', 'state', 'error_code', 'provider_key_id', 'cost_nanos'])
    .where('request_id', '=', call.requestId)
    .orderBy('n')
    .execute();
const refused = (code: ErrorCode, providerStatus = 401, retryAfterMs?: number) =>
  new ProviderError(code, 'no', { providerStatus, retryAfterMs });
const benchOf = async (id: string) => (await providerKeys.usable(provider)).find((key) => key.id === id);

describe('the key of a call', () => {
  it('is the configured one while none is stored', async () => {
    const { adapter, used } = adapterWith({});
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    expect(await run(calls, call)).toBeUndefined();
    expect(used).toEqual(['configured']);
    expect(await journal(call)).toMatchObject([{ state: 'succeeded', provider_key_id: null }]);
  });

  it('is the stored one, and the journal says which', async () => {
    const id = await add('one');
    const { adapter, used } = adapterWith({});
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    await run(calls, call);
    expect(used).toEqual(['one']);
    expect(await journal(call)).toMatchObject([{ state: 'succeeded', provider_key_id: id }]);
  });

  it('is missing where only stored ones count and none is for this caller: nobody is called', async () => {
    await add('theirs', { team: 'alpha' });
    const { adapter, used } = adapterWith({}, { storedKeysOnly: true });
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    expect(await run(calls, call)).toMatchObject({ error: { code: 'provider_auth' }, retryInMs: undefined });
    expect(used).toEqual([]);
    expect(await journal(call)).toEqual([]);
  });

  it('is the most the caller’s own', async () => {
    const [mine, other] = [await virtualKey(), await virtualKey()];
    await add('shared');
    await add('team', { team: 'alpha' });
    await add('own', { virtualKeyId: mine });
    const { adapter } = adapterWith({});
    const { credentials } = await startProcess(adapter);
    const chosen = async (scope?: KeyScope) => {
      const choice = await credentials.choose(adapter, scope);
      return 'refused' in choice ? choice.refused.code : choice.credential;
    };
    expect(await chosen({ virtualKeyId: mine, team: 'alpha' })).toEqual({ apiKey: 'own' });
    expect(await chosen({ virtualKeyId: other, team: 'alpha' })).toEqual({ apiKey: 'team' });
    expect(await chosen({ virtualKeyId: other, team: 'beta' })).toEqual({ apiKey: 'shared' });
    expect(await chosen({ virtualKeyId: null, team: null })).toEqual({ apiKey: 'shared' });
    expect(await chosen(undefined)).toEqual({ apiKey: 'shared' });
  });

  it('fits the provider’s region', async () => {
    await add('elsewhere', { region: 'us-east-1' });
    const { adapter, used } = adapterWith({}, { region: 'eu-west-1' });
    const { calls } = await startProcess(adapter);
    await run(calls, await newCall());
    await add('here', { region: 'eu-west-1' });
    await run((await startProcess(adapter)).calls, await newCall());
    expect(used).toEqual(['configured', 'here']);
  });

  it('is chosen by weight', async () => {
    await add('light', { weight: 1 });
    await add('heavy', { weight: 3 });
    const { adapter } = adapterWith({});
    let at = 0;
    const { credentials } = await startProcess(adapter, () => at);
    const counts: Record<string, number> = {};
    for (; at < 1; at += 1 / 64) {
      const choice = await credentials.choose(adapter, undefined);
      const { apiKey = '' } = ('credential' in choice ? choice.credential : {}) as { apiKey?: string };
      counts[apiKey] = (counts[apiKey] ?? 0) + 1;
    }
    expect(counts).toEqual({ light: 16, heavy: 48 });
  });
});

describe('a key that the provider refuses', () => {
  it.each(['provider_auth', 'provider_quota_exhausted'] as const)(
    'with %s is benched, and the call repeated with another, whatever max_retries says',
    async (code) => {
      const [bad, good] = [await add('bad'), await add('good')];
      const { adapter, used } = adapterWith({ bad: refused(code) });
      const { calls } = await startProcess(adapter, () => 0);
      const call = await newCall();
      const once = { ...call, target: { ...call.target, maxAttempts: 1 } };
      expect(await run(calls, once)).toBeUndefined();
      expect(used).toEqual(['bad', 'good']);
      expect(await journal(call)).toEqual([
        { n: 1, state: 'failed', error_code: code, provider_key_id: bad, cost_nanos: 0 },
        { n: 2, state: 'succeeded', error_code: null, provider_key_id: good, cost_nanos: 0 },
      ]);
      expect(await benchOf(bad)).toMatchObject({ benchReason: code, benchedForMs: expect.closeTo(300_000, -4.5) });
      // The next call does not try it, in whatever process.
      await run((await startProcess(adapter, () => 0)).calls, await newCall());
      await run(calls, await newCall());
      expect(used).toEqual(['bad', 'good', 'good', 'good']);
    },
  );

  it('was the last: the error is the provider’s, then without a call the reason of the bench', async () => {
    await add('bad');
    const { adapter, used } = adapterWith({ bad: refused('provider_auth') });
    const { calls } = await startProcess(adapter);
    expect(await run(calls, await newCall())).toMatchObject({ error: { message: 'no' }, retryInMs: undefined });
    const next = await newCall();
    expect(await run(calls, next)).toMatchObject({
      error: { code: 'provider_auth', message: expect.stringContaining('benched') },
      retryInMs: undefined,
    });
    expect(used).toEqual(['bad']);
    expect(await journal(next)).toEqual([]);
  });

  it('does not make a caller use what others pay', async () => {
    const mine = await virtualKey();
    await add('shared');
    await add('own', { virtualKeyId: mine });
    const { adapter, used } = adapterWith({ own: refused('provider_quota_exhausted', 429) });
    const { calls } = await startProcess(adapter);
    const keyScope = { virtualKeyId: mine, team: null };
    expect(await run(calls, await newCall({ keyScope }))).toMatchObject({
      error: { code: 'provider_quota_exhausted' },
    });
    expect(await run(calls, await newCall({ keyScope }))).toMatchObject({
      error: { code: 'provider_quota_exhausted' },
    });
    expect(await run(calls, await newCall())).toBeUndefined();
    expect(used).toEqual(['own', 'shared']);
  });

  it('with a 403, which may be about the model, goes on serving others if it is the last', async () => {
    const [one, two] = [await add('one'), await add('two')];
    const denied = refused('provider_auth', 403);
    const { adapter, used } = adapterWith({ one: denied, two: denied });
    const { calls } = await startProcess(adapter, () => 0);
    expect(await run(calls, await newCall())).toMatchObject({ error: { code: 'provider_auth' }, retryInMs: undefined });
    expect(used).toEqual(['one', 'two']);
    expect((await benchOf(one))?.benchedForMs).toBeGreaterThan(0);
    expect((await benchOf(two))?.benchedForMs).toBe(0);
  });

  it('is not tried more than five times in a request, however many keys there are', async () => {
    const bad = Array.from({ length: 7 }, (_, i) => `bad-${i}`);
    for (const key of bad) await add(key);
    const { adapter, used } = adapterWith(Object.fromEntries(bad.map((key) => [key, refused('provider_auth')])));
    const { calls } = await startProcess(adapter);
    expect(await run(calls, await newCall())).toMatchObject({ error: { code: 'provider_auth' }, retryInMs: undefined });
    expect(new Set(used).size).toBe(5);
  });
});

describe('a rate limit', () => {
  it('benches its key for as long as the provider says, while another takes over', async () => {
    const [slow, quick] = [await add('slow'), await add('quick')];
    const { adapter, used } = adapterWith({ slow: refused('provider_rate_limited', 429, 20_000) });
    const { calls } = await startProcess(adapter, () => 0);
    const call = await newCall({ hasNextTarget: true });
    expect(await run(calls, call)).toBeUndefined();
    expect(used).toEqual(['slow', 'quick']);
    expect((await journal(call)).map((row) => row.provider_key_id)).toEqual([slow, quick]);
    expect((await benchOf(slow))?.benchedForMs).toBeCloseTo(20_000, -4);
  });

  it('of the only key is waited for, as ever', async () => {
    const only = await add('only');
    const { adapter } = adapterWith({ only: refused('provider_rate_limited', 429, 1_500) });
    const { calls } = await startProcess(adapter);
    expect(await run(calls, await newCall())).toMatchObject({
      error: { code: 'provider_rate_limited' },
      retryInMs: 1_500,
    });
    expect((await benchOf(only))?.benchedForMs).toBe(0);
  });

  it('counts: keys are not a way around max_retries', async () => {
    for (const key of ['a', 'b', 'c', 'd', 'e']) await add(key);
    const limited = refused('provider_rate_limited', 429, 60_000);
    const { adapter, used } = adapterWith({ a: limited, b: limited, c: limited, d: limited, e: limited });
    const { calls } = await startProcess(adapter);
    expect(await run(calls, await newCall())).toMatchObject({ retryInMs: undefined });
    expect(new Set(used).size).toBe(3);
  });
});

describe('a rotation', () => {
  it('in place fails no call: one that is refused meanwhile is repeated with the new key', async () => {
    const id = await add('old');
    let rotated = false;
    const { adapter, used } = adapterWith(() => ({ old: rotated ? refused('provider_auth') : undefined }));
    const { calls } = await startProcess(adapter);
    expect(await run(calls, await newCall())).toBeUndefined();
    await providerKeys.update(provider, id, { secret: 'new', hint: '' });
    rotated = true;
    // This process still has the old key at hand.
    const call = await newCall();
    expect(await run(calls, call)).toBeUndefined();
    expect(used).toEqual(['old', 'old', 'new']);
    expect((await journal(call)).map((row) => [row.state, row.provider_key_id])).toEqual([
      ['failed', id],
      ['succeeded', id],
    ]);
    expect((await benchOf(id))?.benchedForMs).toBe(0);
  });

  it('by removal falls back to the configured key', async () => {
    const id = await add('old');
    const { adapter, used } = adapterWith({ old: refused('provider_auth') });
    const { calls, credentials } = await startProcess(adapter);
    await credentials.choose(adapter, undefined);
    await providerKeys.remove(provider, id);
    expect(await run(calls, await newCall())).toBeUndefined();
    expect(used).toEqual(['old', 'configured']);
  });

  it('from the configured to a stored key fails no call either', async () => {
    const { adapter, used } = adapterWith({ configured: refused('provider_auth') });
    const { calls, credentials } = await startProcess(adapter);
    await credentials.choose(adapter, undefined);
    await add('new');
    expect(await run(calls, await newCall())).toBeUndefined();
    expect(used).toEqual(['configured', 'new']);
  });

  it('is known to every process within a second', async () => {
    const id = await add('old');
    const { adapter } = adapterWith({});
    const { credentials } = await startProcess(adapter);
    const now = async () => {
      const choice = await credentials.choose(adapter, undefined);
      return 'credential' in choice ? choice.credential : undefined;
    };
    expect(await now()).toEqual({ apiKey: 'old' });
    await providerKeys.update(provider, id, { secret: 'new', hint: '' });
    const changedAt = Date.now();
    let current = await now();
    while (JSON.stringify(current) !== '{"apiKey":"new"}' && Date.now() - changedAt < 5_000) current = await now();
    expect(current).toEqual({ apiKey: 'new' });
    expect(Date.now() - changedAt).toBeLessThan(1_500);
  });
});

describe('a call that another process left refused', () => {
  it('is repeated with another key, as the journal says', async () => {
    const [bad, good] = [await add('bad'), await add('good')];
    const { adapter, used } = adapterWith({ bad: refused('provider_auth') });
    const call = await newCall();
    const attempts = new Attempts(db);
    const key = { requestId: call.requestId, targetIndex: 0, n: 1 };
    await attempts.claim({ ...key, provider, model: 'm', owner: 'gone', maxCostNanos: 1, providerKeyId: bad });
    const error = refused('provider_auth').info;
    await attempts.finish(key, { state: 'failed', latencyMs: 1, usage: null, costNanos: 0, error });
    await providerKeys.bench(bad, 1, 60_000, 'provider_auth');
    const second = await startProcess(adapter, () => 0);
    expect(await run(second.calls, call)).toBeUndefined();
    expect(used).toEqual(['good']);
    expect((await journal(call)).map((row) => row.provider_key_id)).toEqual([bad, good]);
  });

  it('is answered from the journal even when no key is left', async () => {
    const id = await add('good');
    const { adapter, used } = adapterWith({});
    const call = await newCall();
    await run((await startProcess(adapter)).calls, call);
    await providerKeys.bench(id, 1, 60_000, 'provider_auth');
    expect(await run((await startProcess(adapter)).calls, call)).toBeUndefined();
    expect(used).toEqual(['good']);
  });

  it('ends with its error when there is none', async () => {
    await add('bad');
    const { adapter, used } = adapterWith({ bad: refused('provider_auth') });
    const call = await newCall();
    await run((await startProcess(adapter)).calls, call);
    expect(await run((await startProcess(adapter)).calls, call)).toMatchObject({ error: { message: 'no' } });
    expect(used).toEqual(['bad']);
  });
});

describe('a probe', () => {
  it('uses everybody’s key, else any where none is configured', async () => {
    const { adapter } = adapterWith({}, { storedKeysOnly: true });
    const probeKey = async (probed: ProviderAdapter = adapter) =>
      (await startProcess(probed)).credentials.forProbe(probed);
    expect(await probeKey()).toBeUndefined();
    await add('team', { team: 'alpha' });
    expect(await probeKey()).toEqual({ apiKey: 'team' });
    expect(await probeKey(adapterWith({}).adapter)).toBeUndefined();
    await add('shared');
    expect(await probeKey()).toEqual({ apiKey: 'shared' });
  });
});
