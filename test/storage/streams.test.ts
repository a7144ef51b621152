import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '../../domain/ids.ts';
import type { StreamItem } from '../../domain/stream-item.ts';
import { MemoryStreamLog } from '../../storage/streams/memory.ts';
import { RedisStreamLog } from '../../storage/streams/redis.ts';
import type { StreamEntry, StreamLog } from '../../storage/streams/stream-log.ts';
import { inject } from '../support/inject.ts';

const delta = (content: string): StreamItem => ({
  type: 'delta',
  provider: 'p',
  model: 'm',
  choices: [{ index: 0, delta: { content } }],
});
const failed: StreamItem = { type: 'failed', error: { code: 'gateway_internal', message: 'x' } };
const forever = new AbortController().signal;

async function read(entries: AsyncIterable<StreamEntry>, count = Number.POSITIVE_INFINITY): Promise<string[]> {
  const seen: string[] = [];
  for await (const { seq, item } of entries) {
    seen.push(`${seq}:${item.type === 'delta' ? item.choices[0]?.delta.content : item.type}`);
    if (seen.length >= count) break;
  }
  return seen;
}

function contract(open: () => StreamLog): void {
  let log: StreamLog;
  beforeAll(() => {
    log = open();
  });
  afterAll(() => log.close());

  it('brings past and future entries in order and ends with the last one', async () => {
    const id = newId('chatcmpl');
    await log.append(id, 1, [delta('a'), delta('b')]);
    const reading = read(log.subscribe(id, 0, forever));
    await log.append(id, 1, [delta('c')]);
    await log.append(id, 1, [failed]);
    expect(await reading).toEqual(['0:a', '1:b', '2:c', '3:failed']);
    expect(await read(log.subscribe(id, 0, forever))).toEqual(['0:a', '1:b', '2:c', '3:failed']);
  });

  it('starts from any entry', async () => {
    const id = newId('chatcmpl');
    await log.append(id, 1, [delta('a'), delta('b'), failed]);
    expect(await read(log.subscribe(id, 1, forever))).toEqual(['1:b', '2:failed']);
    expect(await read(log.subscribe(id, 2, forever))).toEqual(['2:failed']);
  });

  it('serves a reader who was there before the first entry, and several at once', async () => {
    const id = newId('chatcmpl');
    const readings = [read(log.subscribe(id, 0, forever)), read(log.subscribe(id, 0, forever))];
    for (const letter of 'abcdefghij') await log.append(id, 1, [delta(letter)]);
    await log.append(id, 1, [failed]);
    const [first, second] = await Promise.all(readings);
    expect(first).toHaveLength(11);
    expect(second).toEqual(first);
  });

  it('loses nothing while a reader joins in the middle of writing', async () => {
    const id = newId('chatcmpl');
    const writing = (async () => {
      for (let i = 0; i < 200; i += 1) await log.append(id, 1, [delta(String(i))]);
      await log.append(id, 1, [failed]);
    })();
    const readings = Array.from({ length: 5 }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, i * 3));
      return read(log.subscribe(id, 0, forever));
    });
    await writing;
    for (const seen of await Promise.all(readings)) {
      expect(seen).toEqual([...Array.from({ length: 200 }, (_, i) => `${i}:${i}`), '200:failed']);
    }
  });

  it('refuses entries of an attempt that a later one outranked', async () => {
    const id = newId('chatcmpl');
    expect(await log.append(id, 1, [delta('old')])).toBe(true);
    expect(await log.append(id, 2, [delta('new')])).toBe(true);
    expect(await log.append(id, 1, [delta('late')])).toBe(false);
    expect(await log.append(id, 2, [failed])).toBe(true);
    expect(await read(log.subscribe(id, 0, forever))).toEqual(['0:old', '1:new', '2:failed']);
  });

  it('lets a reader go when its signal aborts', async () => {
    const id = newId('chatcmpl');
    const abort = new AbortController();
    const reading = read(log.subscribe(id, 0, abort.signal));
    await log.append(id, 1, [delta('a')]);
    abort.abort();
    expect((await reading).length).toBeLessThanOrEqual(1);
  });

  it('knows how many entries there are', async () => {
    const id = newId('chatcmpl');
    expect(await log.length(id)).toBe(0);
    await log.append(id, 1, [delta('a'), delta('b')]);
    expect(await log.length(id)).toBe(2);
  });

  it('keeps streams apart', async () => {
    const [one, two] = [newId('chatcmpl'), newId('chatcmpl')];
    await log.append(one, 1, [delta('one'), failed]);
    await log.append(two, 1, [delta('two'), failed]);
    expect(await read(log.subscribe(two, 0, forever))).toEqual(['0:two', '1:failed']);
  });
}

describe('the stream log in memory', () => contract(() => new MemoryStreamLog()));

const url = inject('redis');
describe.skipIf(url === null)('the stream log in Redis', () => {
  const connections: Redis[] = [];
  const connect = () => {
    const redis = new Redis(url ?? '');
    connections.push(redis);
    return redis;
  };
  afterAll(() => {
    for (const redis of connections) redis.disconnect();
  });

  contract(() => new RedisStreamLog(connect(), connect()));

  it('is shared by processes', async () => {
    const [writer, reader] = [new RedisStreamLog(connect(), connect()), new RedisStreamLog(connect(), connect())];
    const id = newId('chatcmpl');
    const reading = read(reader.subscribe(id, 0, forever));
    await writer.append(id, 1, [delta('a'), failed]);
    expect(await reading).toEqual(['0:a', '1:failed']);
  });

  it('tells its readers when the connection is lost', async () => {
    const subscriber = connect();
    const log = new RedisStreamLog(connect(), subscriber);
    const id = newId('chatcmpl');
    const entries = log.subscribe(id, 0, forever)[Symbol.asyncIterator]();
    await log.append(id, 1, [delta('a')]);
    await entries.next();
    subscriber.disconnect();
    await expect(entries.next()).rejects.toThrow(/lost/);
  });
});
