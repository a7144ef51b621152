import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { pino } from 'pino';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { CallFailed } from '../../calls/call-failed.ts';
import { Calls } from '../../calls/calls.ts';
import { Credentials } from '../../calls/credentials.ts';
import { ProviderBuckets } from '../../calls/provider-buckets.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import type { TargetCall } from '../../domain/model-call.ts';
import { fromDollars, NO_USAGE } from '../../domain/money.ts';
import type { ProviderLimits } from '../../domain/provider-limits.ts';
import { NOBODY } from '../../domain/scope.ts';
import type { StreamItem } from '../../domain/stream-item.ts';
import type { ProviderAdapter } from '../../providers/adapter.ts';
import { ProviderError } from '../../providers/errors.ts';
import { createCipher } from '../../storage/cipher.ts';
import type { Buckets } from '../../storage/counters/buckets.ts';
import { MemoryBuckets } from '../../storage/counters/memory-buckets.ts';
import { Attempts } from '../../storage/postgres/attempts.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import { Budgets } from '../../storage/postgres/budgets.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { Processes } from '../../storage/postgres/processes.ts';
import { ProviderKeys } from '../../storage/postgres/provider-keys.ts';
import { Reservations } from '../../storage/postgres/reservations.ts';
import { RunEvents } from '../../storage/postgres/run-events.ts';
import { Runs } from '../../storage/postgres/runs.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { MemoryStreamLog } from '../../storage/streams/memory.ts';
import type { StreamLog } from '../../storage/streams/stream-log.ts';
import { callStreams, ENCRYPTION_KEY, insertRequest, moneyOf, useDatabase } from '../support/databases.ts';
import { eventually } from '../support/gateway.ts';
import { answers, answersAfter, fails, hangs, scriptedAdapter } from '../support/scripted-adapter.ts';

const MAX_COST = 123_456;
const price = {
  input: fromDollars(1),
  output: fromDollars(2),
  cachedInput: fromDollars(1),
  cacheWrite: fromDollars(1),
};
const overloaded = new ProviderError('provider_overloaded', 'busy');
const forever = new AbortController().signal;

const database = useDatabase();
let db: Sql;
beforeAll(() => {
  db = database.db;
});

/** A process that makes calls: its own id, and a lease unless it is dead. */
async function startProcess(
  adapter: ProviderAdapter,
  overrides: {
    streams?: StreamLog;
    attempts?: Attempts;
    alive?: boolean;
    buckets?: Buckets;
    limits?: ProviderLimits;
  } = {},
) {
  const { streams = new MemoryStreamLog(), attempts = new Attempts(db), alive = true } = overrides;
  const { buckets = new MemoryBuckets(), limits = {} } = overrides;
  const processId = newId('proc');
  if (alive) await new Processes(db).renew(processId);
  const logger = pino({ level: 'silent' });
  const cipher = createCipher(ENCRYPTION_KEY);
  const calls = new Calls({
    attempts,
    ...moneyOf(db),
    credentials: new Credentials({ providerKeys: new ProviderKeys(db, cipher), logger }),
    buckets: new ProviderBuckets({ buckets, limitsOf: () => limits, logger }),
    bodies: new Bodies(db, cipher),
    providers: new Map([['p', adapter]]),
    streams: callStreams(db, streams),
    processId,
    logger,
  });
  return { calls, streams, processId };
}

async function newCall(
  overrides: Partial<Omit<TargetCall, 'target'>> & { target?: Partial<TargetCall['target']> } = {},
): Promise<TargetCall> {
  const bodies = new Bodies(db, createCipher(ENCRYPTION_KEY));
  const body = bodies.seal({ messages: [{ role: 'user', content: newId('chatcmpl') }] });
  const requestId = await insertRequest(db, { body });
  return {
    requestId,
    bodyRef: body.ref,
    stream: false,
    resumable: false,
    targetIndex: 0,
    hasNextTarget: false,
    retryDelayMs: 1_000,
    deadlineAt: Date.now() + 60_000,
    ...overrides,
    target: {
      provider: 'p',
      model: 'm',
      maxAttempts: 3,
      timeoutMs: 60_000,
      maxOutputTokens: 100,
      price,
      maxCostNanos: MAX_COST,
      ...overrides.target,
    },
  };
}

const journal = (call: TargetCall) =>
  db
    .selectFrom('attempts')
    .selectAll()
    .where('request_id', '=', call.requestId)
    .orderBy('target_index')
    .orderBy('n')
    .execute();
/** Lets the time pass until the next call of a target is due. */
const pass = (call: TargetCall) =>
  sql`UPDATE attempts SET finished_at = finished_at - interval '1 hour' WHERE request_id = ${call.requestId}`.execute(
    db,
  );
const failure = async (running: Promise<unknown>): Promise<CallFailed> => {
  const thrown = await running.catch((error: unknown) => error);
  if (thrown instanceof CallFailed) return thrown;
  throw new Error('the call did not fail', { cause: thrown });
};
async function shown(streams: StreamLog, call: TargetCall): Promise<string[]> {
  const items: string[] = [];
  const count = await streams.length(call.requestId);
  if (count === 0) return items;
  for await (const { item } of streams.subscribe(call.requestId, 0, forever)) {
    items.push(describeItem(item));
    if (items.length === count) break;
  }
  return items;
}
const describeItem = (item: StreamItem): string => {
  if (item.type === 'delta') return item.choices[0]?.delta.content ?? '';
  if (item.type === 'completed') return `completed:${item.result.choices[0]?.message.content}`;
  return 'error' in item ? `${item.type}:${item.error?.code}` : item.type;
};

describe('a call in the background', () => {
  /** The run that a call is made for, as those who look at it see it. */
  async function newRun(call: TargetCall) {
    const cipher = createCipher(ENCRYPTION_KEY);
    const events = new RunEvents(db, cipher);
    const input = new Bodies(db, cipher).seal({ id: call.requestId });
    await new Runs(db, events).insert(db, {
      id: call.requestId,
      kind: 'chat.completion',
      owner: 'master',
      attribution: NOBODY,
      model: 'm',
      priority: 3,
      input,
      metadata: {},
      deadlineAt: new Date(call.deadlineAt),
      maxCostNanos: null,
      webhook: null,
      retryOf: null,
      rerunOf: null,
    });
    return async () => (await events.read(call.requestId, 0)).map(({ item }) => describeItem(item));
  }

  it('whose stream breaks off shows all of it before it says so', async () => {
    const { calls } = await startProcess(scriptedAdapter(fails(overloaded, ['one', 'two']), answers(['three'])));
    const call = await newCall({ stream: true, background: true, resumable: true });
    const seen = await newRun(call);
    const { append } = RunEvents.prototype;
    // The database is slow to take what was said.
    const slow = vi.spyOn(RunEvents.prototype, 'append').mockImplementationOnce(async function (
      this: RunEvents,
      ...of
    ) {
      await eventually(async () => (await journal(call))[0]?.state === 'failed');
      await sleep(50);
      return append.apply(this, of);
    });
    await failure(calls.run(call, forever));
    slow.mockRestore();
    await pass(call);
    await calls.run(call, forever);
    const items = await seen();
    const words = items.filter((item) => !item.startsWith('state'));
    expect(words.slice(0, 3)).toEqual(['one', 'two', 'interrupted:provider_stream_interrupted']);
    expect(words.slice(3)).toEqual(['interrupted:provider_stream_interrupted', 'three']);
  });

  it('whose stream breaks off says so, though the database is away at that moment', async () => {
    const { calls } = await startProcess(scriptedAdapter(fails(overloaded, ['one'])));
    const call = await newCall({ stream: true, background: true, resumable: true });
    const seen = await newRun(call);
    const { append } = RunEvents.prototype;
    let away = true;
    const failing = vi.spyOn(RunEvents.prototype, 'append').mockImplementation(function (this: RunEvents, ...of) {
      const broke = of[2].some(({ type }) => type === 'interrupted');
      if (!broke || !away) return append.apply(this, of);
      away = false;
      return Promise.reject(new HoldfastError('gateway_unavailable', 'The database is away.'));
    });
    await failure(calls.run(call, forever));
    failing.mockRestore();
    expect((await seen()).at(-1)).toBe('interrupted:provider_stream_interrupted');
  });

  it('is not claimed, let alone booked, before its run could be brought into its state', async () => {
    const adapter = scriptedAdapter(answers(['hi']));
    const { calls } = await startProcess(adapter);
    const call = await newCall({ background: true });
    await newRun(call);
    const transition = vi
      .spyOn(Runs.prototype, 'transition')
      .mockRejectedValueOnce(new HoldfastError('gateway_unavailable', 'The database is away.'));
    await calls.run(call, forever).catch(() => {});
    transition.mockRestore();
    await calls.run(call, forever);
    expect(adapter.calls).toBe(1);
    expect(await journal(call)).toMatchObject([{ n: 1, state: 'succeeded' }]);
  });
});

describe('a call that is answered', () => {
  it('is journalled with usage and cost before the answer is out', async () => {
    const { calls, streams } = await startProcess(scriptedAdapter(answers(['Hel', 'lo'])));
    const call = await newCall();
    const result = await calls.run(call, forever);
    expect(result).toMatchObject({
      provider: 'p',
      model: 'm',
      finishReasons: ['end_turn'],
      usage: { inputTokens: 10, outputTokens: 2 },
    });
    expect(await journal(call)).toMatchObject([
      { n: 1, state: 'succeeded', prompt_tokens: 10, completion_tokens: 2, cost_nanos: 14_000, usage_estimated: false },
    ]);
    const entry = await streams.subscribe(call.requestId, 0, forever)[Symbol.asyncIterator]().next();
    expect(entry.value?.item).toMatchObject({
      type: 'completed',
      result: { model: 'm-2026', choices: [{ message: { content: 'Hello' } }] },
      metadata: { provider: 'p', region: 'moon-1', attempts: 1, cost_usd: 0.000014 },
    });
  });

  it('streams what arrives, in order, before the end', async () => {
    const { calls, streams } = await startProcess(scriptedAdapter(answers(['a', 'b', 'c'])));
    const call = await newCall({ stream: true });
    await calls.run(call, forever);
    expect(await shown(streams, call)).toEqual(['a', 'b', 'c', 'completed:abc']);
  });

  it('whose provider reports no usage is counted here and marked as estimated', async () => {
    const { calls } = await startProcess(scriptedAdapter(answers(['one', ' two', ' three'], { usage: false })));
    const call = await newCall({ stream: true });
    await calls.run(call, forever);
    const [attempt] = await journal(call);
    expect(attempt).toMatchObject({ state: 'succeeded', usage_estimated: true, completion_tokens: 3 });
    expect(attempt?.prompt_tokens).toBeGreaterThan(5);
    expect(attempt?.cost_nanos).toBe((attempt?.prompt_tokens ?? 0) * 1_000 + 6_000);
  });

  it('is answered all the same when the stream log is broken', async () => {
    const broken = new MemoryStreamLog();
    broken.append = () => Promise.reject(new Error('no Redis'));
    const { calls } = await startProcess(scriptedAdapter(answers(['a'])), { streams: broken });
    const call = await newCall({ stream: true });
    await expect(calls.run(call, forever)).resolves.toMatchObject({ provider: 'p' });
  });

  it('keeps its outcome while the database is away', async () => {
    class Flaky extends Attempts {
      away = 2;
      override finish(...args: Parameters<Attempts['finish']>) {
        if (this.away-- > 0) return Promise.reject(new HoldfastError('gateway_unavailable', 'away'));
        return super.finish(...args);
      }
    }
    const adapter = scriptedAdapter(answers(['a']));
    const { calls } = await startProcess(adapter, { attempts: new Flaky(db) });
    const call = await newCall();
    await calls.run(call, forever);
    expect(adapter.calls).toBe(1);
    expect(await journal(call)).toMatchObject([{ state: 'succeeded' }]);
  });
});

describe('a call that is executed again', () => {
  it('after its completion was lost is answered from the journal', async () => {
    const adapter = scriptedAdapter(answers(['once']), answers(['twice']));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    const first = await calls.run(call, forever);
    const { calls: elsewhere, streams } = await startProcess(adapter);
    expect(await elsewhere.run(call, forever)).toEqual(first);
    expect(await shown(streams, call)).toEqual(['completed:once']);
    expect(adapter.calls).toBe(1);
  });

  it('while it runs in the same process joins it', async () => {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const adapter = scriptedAdapter(answersAfter(gate, ['once']));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    const running = [calls.run(call, forever), calls.run(call, forever), calls.run(call, forever)];
    await sleep(50);
    open();
    const results = await Promise.all(running);
    expect(new Set(results.map((result) => result.responseRef)).size).toBe(1);
    expect(adapter.calls).toBe(1);
  });

  it('while it runs in another process waits for that one’s outcome', async () => {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const adapter = scriptedAdapter(answersAfter(gate, ['there']));
    const { calls: there } = await startProcess(adapter);
    const { calls: here } = await startProcess(adapter);
    const call = await newCall();
    const first = there.run(call, forever);
    while ((await journal(call)).length === 0) await sleep(10);
    const second = here.run(call, forever);
    await sleep(300);
    open();
    expect(await second).toEqual(await first);
    expect(adapter.calls).toBe(1);
  });

  it('after its process died books the lost attempt as unknown at its maximum and calls again', async () => {
    const adapter = scriptedAdapter(hangs(), answers(['again']));
    const { calls: dead } = await startProcess(adapter, { alive: false });
    const { calls: alive } = await startProcess(adapter);
    const call = await newCall();
    const lost = new AbortController();
    const dying = dead.run(call, lost.signal).catch(() => {});
    while (adapter.calls === 0) await sleep(10);
    await alive.run(call, forever);
    expect(await journal(call)).toMatchObject([
      { n: 1, state: 'unknown', cost_nanos: MAX_COST },
      { n: 2, state: 'succeeded', cost_nanos: 12_000 },
    ]);
    lost.abort();
    await dying;
    expect((await journal(call))[0]).toMatchObject({ state: 'unknown', cost_nanos: MAX_COST });
  });

  it('after the request was settled calls nobody', async () => {
    const adapter = scriptedAdapter(answers(['no']));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    await settle(db, { requestId: call.requestId, state: 'failed' });
    expect((await failure(calls.run(call, forever))).error.code).toBe('gateway_cancelled');
    expect(adapter.calls).toBe(0);
  });
});

describe('a call that fails', () => {
  it('is repeated by whoever runs it, with growing delays, until its calls are used up', async () => {
    const adapter = scriptedAdapter(fails(overloaded));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    const delays = [];
    for (let i = 0; i < 3; i += 1) {
      delays.push((await failure(calls.run(call, forever))).retryInMs);
      await pass(call);
    }
    expect(delays).toEqual([1_000, 2_000, undefined]);
    expect((await failure(calls.run(call, forever))).error.code).toBe('provider_overloaded');
    expect(adapter.calls).toBe(3);
    expect(await journal(call)).toMatchObject(
      [1, 2, 3].map((n) => ({ n, state: 'failed', cost_nanos: 0, error_code: 'provider_overloaded' })),
    );
  });

  it('is not repeated before its time, whoever asks', async () => {
    const adapter = scriptedAdapter(fails(overloaded), answers(['ok']));
    const [one, other] = [await startProcess(adapter), await startProcess(adapter)];
    const call = await newCall();
    await failure(one.calls.run(call, forever));
    const { error, retryInMs = 0 } = await failure(other.calls.run(call, forever));
    expect(error.code).toBe('provider_overloaded');
    expect(retryInMs).toBeGreaterThan(0);
    expect(retryInMs).toBeLessThan(1_000);
    expect(adapter.calls).toBe(1);
    await pass(call);
    await expect(other.calls.run(call, forever)).resolves.toMatchObject({ provider: 'p' });
  });

  it('for good is not repeated when it is executed again', async () => {
    const refused = new ProviderError('provider_invalid_request', 'bad', { param: 'messages[0]', providerStatus: 400 });
    const adapter = scriptedAdapter(fails(refused), answers(['no']));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    for (let i = 0; i < 2; i += 1) {
      const { error, retryInMs } = await failure(calls.run(call, forever));
      expect(error.info).toEqual(refused.info);
      expect(retryInMs).toBeUndefined();
    }
    expect(adapter.calls).toBe(1);
  });

  it('without a sign whether it was billed is unknown at its maximum', async () => {
    const reset = new ProviderError('provider_network', 'connection reset', { maybeBilled: true });
    const { calls } = await startProcess(scriptedAdapter(fails(reset)));
    const call = await newCall();
    expect((await failure(calls.run(call, forever))).retryInMs).toBe(1_000);
    expect(await journal(call)).toMatchObject([
      { state: 'unknown', cost_nanos: MAX_COST, error_code: 'provider_network' },
    ]);
  });

  it('by taking too long is a timeout, unknown when nothing came', async () => {
    const { calls } = await startProcess(scriptedAdapter(hangs()));
    const call = await newCall({ target: { timeoutMs: 50 } });
    expect((await failure(calls.run(call, forever))).error.code).toBe('provider_timeout');
    expect(await journal(call)).toMatchObject([{ state: 'unknown', error_code: 'provider_timeout' }]);
  });

  it('by its deadline is not called again', async () => {
    const adapter = scriptedAdapter(hangs());
    const { calls } = await startProcess(adapter);
    const call = await newCall({ deadlineAt: Date.now() + 60 });
    for (let i = 0; i < 2; i += 1) {
      expect((await failure(calls.run(call, forever))).error.code).toBe('gateway_deadline_exceeded');
    }
    expect(adapter.calls).toBe(1);
  });

  it('because its provider is gone from the config lets another target try', async () => {
    const { calls } = await startProcess(scriptedAdapter(answers(['no'])));
    const call = await newCall({ target: { provider: 'gone' } });
    expect((await failure(calls.run(call, forever))).error.code).toBe('provider_model_not_found');
    expect(await journal(call)).toEqual([]);
  });

  it('is not repeated beyond what a budget covers', async () => {
    const adapter = scriptedAdapter(fails(new ProviderError('provider_network', 'reset', { maybeBilled: true })));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    const scope = { type: 'team', id: newId('vk') } as const;
    await db.updateTable('llm_requests').set({ team: scope.id }).where('id', '=', call.requestId).execute();
    await new Budgets(db).create({ scope, period: 'daily', kind: 'hard', limitNanos: MAX_COST * 1.5 });
    await new Reservations(db).reserve({ requestId: call.requestId, nanos: MAX_COST, priceVersion: 'x' });
    await failure(calls.run(call, forever));
    await pass(call);
    expect((await failure(calls.run(call, forever))).error.code).toBe('policy_budget_exceeded');
    expect(adapter.calls).toBe(1);
  });
});

describe('a stream that breaks', () => {
  const cut = new ProviderError('provider_network', 'cut', { maybeBilled: true });

  it('before the first token is repeated unseen', async () => {
    const { calls, streams } = await startProcess(scriptedAdapter(fails(overloaded), answers(['ok'])));
    const call = await newCall({ stream: true });
    expect((await failure(calls.run(call, forever))).retryInMs).toBe(1_000);
    await pass(call);
    await calls.run(call, forever);
    expect(await shown(streams, call)).toEqual(['ok', 'completed:ok']);
  });

  it('after the first token ends the call, and pays for what came', async () => {
    const adapter = scriptedAdapter(fails(cut, ['one', ' two']));
    const { calls, streams } = await startProcess(adapter);
    const call = await newCall({ stream: true });
    const { error, retryInMs } = await failure(calls.run(call, forever));
    expect([error.code, retryInMs]).toEqual(['provider_stream_interrupted', undefined]);
    expect(await shown(streams, call)).toEqual(['one', ' two', 'interrupted:provider_stream_interrupted']);
    expect(await journal(call)).toMatchObject([
      { state: 'failed', usage_estimated: true, completion_tokens: 2, error_code: 'provider_network' },
    ]);
  });

  it('is told to its caller and tried again when the answer can be fetched later', async () => {
    const { calls, streams } = await startProcess(scriptedAdapter(fails(cut, ['one']), answers(['all'])));
    const call = await newCall({ stream: true, resumable: true });
    expect((await failure(calls.run(call, forever))).retryInMs).toBe(1_000);
    await pass(call);
    await calls.run(call, forever);
    expect((await shown(streams, call)).slice(0, 2)).toEqual(['one', 'interrupted:provider_stream_interrupted']);
    expect((await shown(streams, call)).at(-1)).toBe('completed:all');
  });

  it('because it ends without a finish reason is cut, not complete', async () => {
    const truncated = async function* () {
      yield { type: 'start', model: 'm' } as const;
      yield { type: 'delta', choices: [{ index: 0, delta: { content: 'half' } }] } as const;
    };
    const { calls } = await startProcess(scriptedAdapter(truncated));
    const call = await newCall({ stream: true });
    expect((await failure(calls.run(call, forever))).error.code).toBe('provider_stream_interrupted');
  });

  it('with its process is not continued by another, if its caller saw something', async () => {
    const streams = new MemoryStreamLog();
    const adapter = scriptedAdapter(hangs(['seen']), answers(['other']));
    const { calls: dead } = await startProcess(adapter, { streams, alive: false });
    const { calls: alive } = await startProcess(adapter, { streams });
    const call = await newCall({ stream: true });
    const lost = new AbortController();
    const dying = dead.run(call, lost.signal).catch(() => {});
    while ((await streams.length(call.requestId)) === 0) await sleep(10);
    expect((await failure(alive.run(call, forever))).error.code).toBe('provider_stream_interrupted');
    expect(adapter.calls).toBe(1);
    lost.abort();
    await dying;
  });

  it('that is idle for too long is a timeout, however long it ran before', async () => {
    const slow = async function* ({ signal }: { signal: AbortSignal }) {
      yield { type: 'start', model: 'm' } as const;
      for (let i = 0; i < 5; i += 1) {
        await sleep(60, undefined, { signal });
        yield { type: 'delta', choices: [{ index: 0, delta: { content: 'x' } }] } as const;
      }
      await sleep(60_000, undefined, { signal });
    };
    const { calls } = await startProcess(scriptedAdapter(slow));
    const call = await newCall({ stream: true, target: { timeoutMs: 150 } });
    const { error } = await failure(calls.run(call, forever));
    expect(error.code).toBe('provider_stream_interrupted');
    expect(await journal(call)).toMatchObject([
      { error_code: 'provider_timeout', completion_tokens: expect.any(Number) },
    ]);
  });
});

describe('a call that is aborted', () => {
  async function abortWhenShown(stream: boolean, reason?: HoldfastError) {
    const adapter = scriptedAdapter(hangs(stream ? ['one', ' two'] : []), answers(['later']));
    const { calls, streams } = await startProcess(adapter);
    const call = await newCall({ stream });
    const abort = new AbortController();
    const running = calls.run(call, abort.signal);
    while (adapter.calls === 0 || (stream && (await streams.length(call.requestId)) < 2)) await sleep(10);
    abort.abort(reason);
    return { call, calls, adapter, failed: await failure(running) };
  }

  it('pays for the tokens that were streamed', async () => {
    const { call, failed } = await abortWhenShown(true);
    expect(failed.error.code).toBe('gateway_cancelled');
    expect(await journal(call)).toMatchObject([{ state: 'cancelled', usage_estimated: true, completion_tokens: 2 }]);
  });

  it('is unknown at its maximum when nothing had come', async () => {
    const { call } = await abortWhenShown(false);
    expect(await journal(call)).toMatchObject([
      { state: 'unknown', cost_nanos: MAX_COST, error_code: 'gateway_cancelled' },
    ]);
  });

  it('because its worker stops goes on elsewhere, and is not held against the provider', async () => {
    const { call, calls } = await abortWhenShown(
      false,
      new HoldfastError('gateway_unavailable', 'The worker stopped.'),
    );
    await calls.run({ ...call, target: { ...call.target, maxAttempts: 1 } }, forever);
    expect(await journal(call)).toMatchObject([
      { state: 'unknown', error_code: 'gateway_unavailable' },
      { state: 'succeeded' },
    ]);
  });

  it('by its request id stops at once', async () => {
    const adapter = scriptedAdapter(hangs());
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    const running = failure(calls.run(call, forever));
    while (adapter.calls === 0) await sleep(10);
    calls.abort('chatcmpl-other');
    calls.abort(call.requestId);
    expect((await running).error.code).toBe('gateway_cancelled');
  });

  it('before it was made is not made', async () => {
    const adapter = scriptedAdapter(answers(['no']));
    const { calls } = await startProcess(adapter);
    const call = await newCall();
    await failure(calls.run(call, AbortSignal.abort()));
    expect(adapter.calls).toBe(0);
    expect(await journal(call)).toEqual([]);
  });
});

it('usage that only began to arrive is completed by what was counted', async () => {
  const started = async function* () {
    yield { type: 'start', model: 'm' } as const;
    yield {
      type: 'usage',
      usage: { ...NO_USAGE, inputTokens: 50, cachedInputTokens: 40, outputTokens: 1 },
      final: false,
    } as const;
    yield { type: 'delta', choices: [{ index: 0, delta: { content: 'one two three four' } }] } as const;
    throw new ProviderError('provider_overloaded', 'cut');
  };
  const { calls } = await startProcess(scriptedAdapter(started));
  const call = await newCall({ stream: true });
  await failure(calls.run(call, forever));
  expect(await journal(call)).toMatchObject([
    { prompt_tokens: 50, cached_tokens: 40, completion_tokens: 4, usage_estimated: true },
  ]);
});

describe('a provider’s own limits', () => {
  const limits = { requests: 2 };
  /** What fills the bucket of these calls. */
  const fill = async (buckets: Buckets) => {
    for (const tenant of ['x', 'y']) await buckets.take('p/m', { tenant, tokens: 0, limits });
  };
  /** A clock that stands where the wait for the next window is long. */
  const early = () => new MemoryBuckets(() => 100 * 60_000 + 1_000);

  it('make a call wait without an attempt', async () => {
    const adapter = scriptedAdapter(answers(['a']));
    const buckets = early();
    await fill(buckets);
    const { calls } = await startProcess(adapter, { buckets, limits });
    const call = await newCall({ tenant: 'z', deadlineAt: Date.now() + 600_000 });
    const failed = await failure(calls.run(call, forever));
    expect(failed.error).toMatchObject({ code: 'provider_rate_limited', retryAfterMs: expect.any(Number) });
    expect(failed.retryInMs).toBe(5_000);
    expect(adapter.calls).toBe(0);
    expect(await journal(call)).toEqual([]);
  });

  it('send it to the next target when the wait is long, and end it when the deadline is nearer', async () => {
    const buckets = early();
    await fill(buckets);
    const { calls } = await startProcess(scriptedAdapter(answers(['a'])), { buckets, limits });
    const elsewhere = await failure(calls.run(await newCall({ hasNextTarget: true }), forever));
    expect(elsewhere).toMatchObject({ error: { code: 'provider_rate_limited' }, retryInMs: undefined });
    const late = await failure(calls.run(await newCall({ deadlineAt: Date.now() + 5_000 }), forever));
    expect(late).toMatchObject({ error: { code: 'provider_rate_limited' }, retryInMs: undefined });
  });

  it('are waited for when the wait is short, other target or not', async () => {
    const buckets = new MemoryBuckets();
    await buckets.learn('p/m', { pauseMs: 500 });
    const { calls } = await startProcess(scriptedAdapter(answers(['a'])), { buckets });
    const call = await newCall({ hasNextTarget: true });
    const { retryInMs = 0 } = await failure(calls.run(call, forever));
    expect(retryInMs).toBeGreaterThan(0);
    expect(retryInMs).toBeLessThanOrEqual(500);
    await sleep(retryInMs + 5);
    await expect(calls.run(call, forever)).resolves.toMatchObject({ provider: 'p' });
  });

  it('keep nobody from an answer that is in the journal', async () => {
    const adapter = scriptedAdapter(answers(['once']));
    const buckets = early();
    const { calls } = await startProcess(adapter, { buckets, limits });
    const call = await newCall({ tenant: 'z' });
    const first = await calls.run(call, forever);
    await fill(buckets);
    expect(await calls.run(call, forever)).toEqual(first);
    expect(adapter.calls).toBe(1);
  });

  it('are learned from answers and corrected by their usage', async () => {
    const buckets = early();
    const adapter = scriptedAdapter(async function* (call) {
      call.onLimits?.({ requests: { limit: 1 }, tokens: { limit: 1_000 } });
      yield* answers(['a', 'b'])(call);
    });
    const corrected: number[] = [];
    const correct = buckets.correct.bind(buckets);
    buckets.correct = (bucket, tenant, difference) => {
      corrected.push(difference);
      return correct(bucket, tenant, difference);
    };
    const { calls } = await startProcess(adapter, { buckets });
    await calls.run(await newCall({ estimatedTokens: 5 }), forever);
    expect(corrected).toEqual([7]);
    await calls.run(await newCall(), forever);
    await failure(calls.run(await newCall(), forever));
    expect(adapter.calls).toBe(2);
  });

  it('are not kept when they cannot be checked', async () => {
    const broken = new MemoryBuckets();
    broken.take = () => Promise.reject(new Error('no Redis'));
    broken.learn = () => Promise.reject(new Error('no Redis'));
    broken.correct = () => Promise.reject(new Error('no Redis'));
    const { calls } = await startProcess(scriptedAdapter(answers(['a'])), { buckets: broken, limits });
    await expect(calls.run(await newCall(), forever)).resolves.toMatchObject({ provider: 'p' });
  });
});
