import { sql } from 'kysely';
import { describe, expect, it, vi } from 'vitest';
import { createSweepActivities } from '../../activities/sweep.ts';
import { replays } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import { NOBODY } from '../../domain/scope.ts';
import { RUN_EPOCH, type StreamItem } from '../../domain/stream-item.ts';
import { createCipher } from '../../storage/cipher.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { removeOld } from '../../storage/postgres/retention.ts';
import { RunEvents } from '../../storage/postgres/run-events.ts';
import { Runs } from '../../storage/postgres/runs.ts';
import { JournalledStreamLog } from '../../storage/streams/journalled.ts';
import { MemoryStreamLog } from '../../storage/streams/memory.ts';
import { ENCRYPTION_KEY, onEveryDatabase, sweepDeps } from '../support/databases.ts';

const delta = (content: string): StreamItem => ({
  type: 'delta',
  provider: 'p',
  model: 'm',
  choices: [{ index: 0, delta: { content } }],
});

function open(db: Sql) {
  const cipher = createCipher(ENCRYPTION_KEY);
  const events = new RunEvents(db, cipher);
  const runs = new Runs(db, events);
  return { runs, events, log: new JournalledStreamLog(events, new MemoryStreamLog()), bodies: new Bodies(db, cipher) };
}

async function newRun(db: Sql): Promise<string> {
  const { runs, bodies } = open(db);
  const id = newId('resp');
  await runs.insert(db, {
    id,
    kind: 'response',
    owner: 'master',
    attribution: NOBODY,
    model: 'm',
    priority: 3,
    input: bodies.seal({ id }),
    metadata: {},
    deadlineAt: new Date(Date.now() + 60_000),
    maxCostNanos: null,
    webhook: null,
    retryOf: null,
    rerunOf: null,
  });
  return id;
}

const forever = new AbortController().signal;
async function read(log: JournalledStreamLog, id: string, from = 0): Promise<string[]> {
  const seen: string[] = [];
  for await (const { seq, item } of log.subscribe(id, from, forever)) {
    const what =
      item.type === 'delta' ? item.choices[0]?.delta.content : item.type === 'state' ? item.state : item.type;
    seen.push(`${seq}:${what}`);
  }
  return seen;
}

onEveryDatabase('the log of a run in the background', (database) => {
  it('brings past and future entries in order and ends with the run', async () => {
    const { log, runs } = open(database.db);
    const id = await newRun(database.db);
    await runs.transition(id, { state: 'running' });
    const reading = read(log, id);
    await log.append(id, 1, [delta('a'), delta('b')]);
    await log.append(id, 1, [delta('c')]);
    await runs.transition(id, { state: 'completed' });
    const all = ['0:queued', '1:running', '2:a', '3:b', '4:c', '5:completed'];
    expect(await reading).toEqual(all);
    expect(await read(log, id, 3)).toEqual(all.slice(3));
  });

  it('is the same for a process that starts later', async () => {
    const id = await newRun(database.db);
    const { log, runs } = open(database.db);
    await log.append(id, 1, [delta('a')]);
    const later = open(database.db);
    await later.log.append(id, 2, [
      { type: 'interrupted', error: { code: 'provider_network', message: '' } },
      delta('b'),
    ]);
    await later.runs.transition(id, { state: 'completed' });
    const seen = await read(later.log, id);
    expect(seen).toEqual(['0:queued', '1:a', '2:interrupted', '3:b', '4:completed']);
    expect(await read(log, id)).toEqual(seen);
    expect(await runs.transition(id, { state: 'failed' })).toBe(false);
  });

  it('refuses entries of an attempt that a later one outranked, and of a run that ended', async () => {
    const { log, runs } = open(database.db);
    const id = await newRun(database.db);
    expect(await log.append(id, 1, [delta('old')])).toBe(true);
    expect(await log.append(id, 2, [delta('new')])).toBe(true);
    await runs.transition(id, { state: 'running' });
    expect(await log.append(id, 1, [delta('late')])).toBe(false);
    await runs.transition(id, { state: 'cancelled' });
    expect(await log.append(id, RUN_EPOCH - 1, [delta('late')])).toBe(false);
    expect(await read(log, id)).toEqual(['0:queued', '1:old', '2:new', '3:running', '4:cancelled']);
  });

  it('has no gaps and loses nothing when states and entries are written at once', async () => {
    const { log, runs, events } = open(database.db);
    const id = await newRun(database.db);
    await Promise.all([
      ...Array.from({ length: 20 }, (_, n) => log.append(id, 1, [delta(`a${n}`), delta(`b${n}`)])),
      runs.transition(id, { state: 'running' }),
      runs.transition(id, { state: 'paused' }),
    ]);
    await runs.transition(id, { state: 'completed' });
    const entries = await events.read(id, 0);
    expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, index) => index));
    expect(entries.filter(({ item }) => item.type === 'delta')).toHaveLength(40);
    expect(entries.length).toBeGreaterThanOrEqual(43);
  });

  it('that is not there, or is removed, lets its readers go', async () => {
    const { log } = open(database.db);
    expect(await read(log, newId('resp'))).toEqual([]);
    const id = await newRun(database.db);
    const reading = read(log, id);
    await log.append(id, 1, [delta('a')]);
    await sql`DELETE FROM run_events WHERE run_id = ${id}`.execute(database.db);
    expect((await reading).length).toBeLessThanOrEqual(2);
  });

  it('brings the end at once, also of a run whose request failed', async () => {
    const { events, runs } = open(database.db);
    const news = new MemoryStreamLog();
    const log = new JournalledStreamLog(events, news);
    const id = await newRun(database.db);
    // No reader looks by itself any more.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const seen = log.subscribe(id, 0, forever)[Symbol.asyncIterator]();
      expect((await seen.next()).value?.seq).toBe(0);
      // As `settle` does, before the run comes into its state.
      await news.append(id, RUN_EPOCH, [{ type: 'failed', error: { code: 'provider_network', message: '' } }]);
      await runs.transition(id, { state: 'failed' });
      log.announce(id, true);
      expect((await seen.next()).value?.item).toMatchObject({ state: 'failed' });
    } finally {
      vi.useRealTimers();
    }
  });

  it('is sealed at rest', async () => {
    const { log } = open(database.db);
    const id = await newRun(database.db);
    await log.append(id, 1, [delta('planted-secret-word')]);
    const { rows } = await sql<{ row: string }>`
      SELECT encode(content, 'escape') AS row FROM run_events WHERE run_id = ${id}`.execute(database.db);
    expect(rows).toHaveLength(2);
    expect(JSON.stringify(rows)).not.toContain('planted');
  });
});

onEveryDatabase('a run', (database) => {
  it('changes its state once, however often it is told to', async () => {
    const { runs, events } = open(database.db);
    const id = await newRun(database.db);
    const error = { code: 'policy_budget_exceeded', message: 'no' } as const;
    const told = await Promise.all([1, 2, 3].map(() => runs.transition(id, { state: 'budget_exceeded', error })));
    expect(told.filter(Boolean)).toHaveLength(1);
    expect(await runs.find(id, undefined)).toMatchObject({ state: 'budget_exceeded', stateSeq: 1, error });
    await runs.transition(id, { state: 'running' });
    expect(await runs.find(id, undefined)).toMatchObject({
      state: 'running',
      error: null,
      startedAt: expect.any(Date),
    });
    expect((await events.read(id, 0)).length).toBe(3);
  });

  it('that was never started can be made again under its key, one that an operator ended cannot', async () => {
    const { runs } = open(database.db);
    const ended = async (presence: 'unknown' | 'ended') => {
      const id = await newRun(database.db);
      await sql`UPDATE runs SET created_at = now() - interval '2 minutes' WHERE id = ${id}`.execute(database.db);
      const presenceOf = async (run: string) => (run === id ? presence : 'running');
      await createSweepActivities({ ...sweepDeps(database.db), presenceOf }).sweep();
      const { state, error } = (await runs.find(id, undefined)) ?? {};
      return [state, error && replays(error.code)];
    };
    expect(await ended('unknown')).toEqual(['failed', false]);
    expect(await ended('ended')).toEqual(['cancelled', true]);
  });

  it('ends although what it showed was removed', async () => {
    const { runs } = open(database.db);
    const id = await newRun(database.db);
    await sql`DELETE FROM run_events WHERE run_id = ${id}`.execute(database.db);
    expect(await runs.transition(id, { state: 'cancelled' })).toBe(true);
    expect(await runs.find(id, undefined)).toMatchObject({ state: 'cancelled', completedAt: expect.any(Date) });
  });

  it('is removed with what it showed once it is old, and what is under way stays', async () => {
    const { runs, events, bodies } = open(database.db);
    const [old, open_, young] = [await newRun(database.db), await newRun(database.db), await newRun(database.db)];
    for (const id of [old, young]) await runs.transition(id, { state: 'completed' });
    await sql`UPDATE runs SET completed_at = completed_at - interval '31 days' WHERE id = ${old}`.execute(database.db);
    await sql`
      UPDATE bodies SET created_at = created_at - interval '32 days'
      WHERE ref = (SELECT input_ref FROM runs WHERE id = ${old})`.execute(database.db);
    const ref = (await runs.find(old, undefined))?.inputRef ?? '';
    await removeOld(database.db, 30, 1_000);
    expect(await runs.find(old, undefined)).toBeUndefined();
    expect(await events.length(old)).toBe(0);
    expect(await bodies.get(ref)).toBeUndefined();
    for (const id of [open_, young]) expect(await events.length(id)).toBeGreaterThan(0);
  });
});

describe('a body that is stored again', () => {
  onEveryDatabase('counts as new', (database) => {
    it('and is kept as long as what refers to it', async () => {
      const { runs, bodies } = open(database.db);
      const id = await newRun(database.db);
      const ref = (await runs.find(id, undefined))?.inputRef ?? '';
      await sql`UPDATE bodies SET created_at = created_at - interval '32 days' WHERE ref = ${ref}`.execute(database.db);
      const run = await runs.find(id, undefined);
      const again = bodies.seal({ id });
      expect(again.ref).toBe(run?.inputRef);
      await runs.insert(database.db, {
        ...(run as NonNullable<typeof run>),
        id: newId('resp'),
        attribution: NOBODY,
        input: again,
      });
      await removeOld(database.db, 30, 1_000);
      expect(await open(database.db).bodies.get(ref)).toEqual({ id });
    });
  });
});
