import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { createSweepActivities } from '../../activities/sweep.ts';
import { newId } from '../../domain/ids.ts';
import { createCipher } from '../../storage/cipher.ts';
import { type FileDescription, type FileOwner, Files } from '../../storage/postgres/files.ts';
import { ENCRYPTION_KEY, onEveryDatabase, onRealPostgres, sweepDeps, type TestDatabase } from '../support/databases.ts';

const MEGABYTE = 1024 * 1024;
const ABOUT: FileDescription = { filename: 'in.jsonl', purpose: 'batch', keepSeconds: null };
const filesOf = ({ db }: TestDatabase) => new Files(db, createCipher(ENCRYPTION_KEY));
const someone = (): FileOwner => ({ owner: `key:${crypto.randomUUID()}`, project: null });

async function* pieces(bytes: Buffer, size = 64 * 1024): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}
async function collect(content: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of content) chunks.push(chunk);
  return Buffer.concat(chunks);
}
const store = (files: Files, owner: FileOwner, bytes: Buffer, about: Partial<FileDescription> = {}) =>
  files.create(owner, pieces(bytes), { maxBytes: 20 * MEGABYTE, describe: async () => ({ ...ABOUT, ...about }) });

onEveryDatabase('a file', (database) => {
  const rowsOf = async ({ owner }: FileOwner) => {
    const rows = await database.db.selectFrom('files').select(['id', 'finished']).where('owner', '=', owner).execute();
    return rows;
  };
  const chunksOf = (id: string) =>
    database.db.selectFrom('file_chunks').selectAll().where('file_id', '=', id).orderBy('n').execute();

  it('comes back byte for byte, from any byte on', async () => {
    const files = filesOf(database);
    const bytes = randomBytes(2.5 * MEGABYTE);
    const { id, ...stored } = await store(files, someone(), bytes);
    expect(id).toMatch(/^file-[0-9a-f]{32}$/);
    expect(stored).toMatchObject({ filename: 'in.jsonl', purpose: 'batch', bytes: bytes.length, expiresAt: null });
    const lengths = (await chunksOf(id)).map((chunk) => chunk.bytes);
    expect(lengths).toEqual([MEGABYTE, MEGABYTE, MEGABYTE / 2]);
    for (const fromByte of [0, 1, MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 2 * MEGABYTE, bytes.length - 1, bytes.length]) {
      const content = await collect(files.content(id, { fromByte }));
      expect(content.equals(bytes.subarray(fromByte))).toBe(true);
    }
    expect(await collect(files.content(id, { fromByte: bytes.length + 1 }))).toHaveLength(0);
  });

  it('may be empty', async () => {
    const files = filesOf(database);
    const { id, bytes } = await store(files, someone(), Buffer.alloc(0));
    expect(bytes).toBe(0);
    expect(await collect(files.content(id))).toHaveLength(0);
  });

  it('is sealed where it is stored', async () => {
    const secret = `secret ${crypto.randomUUID()}`;
    const { id } = await store(filesOf(database), someone(), Buffer.from(secret));
    const [chunk] = await chunksOf(id);
    expect(chunk?.content.length).toBeGreaterThan(secret.length);
    expect(chunk?.content.includes('secret')).toBe(false);
    const other = new Files(database.db, createCipher('b2'.repeat(32)));
    await expect(collect(other.content(id))).rejects.toThrow();
  });

  it('is read line by line, and on from the middle', async () => {
    const files = filesOf(database);
    const lines = Array.from({ length: 30_000 }, (_, i) =>
      JSON.stringify({ custom_id: `ü${i}`, x: 'y'.repeat(i % 99) }),
    );
    const { id, bytes } = await store(files, someone(), Buffer.from(lines.join('\r\n')));
    expect(bytes).toBeGreaterThan(2 * MEGABYTE);
    const read: string[] = [];
    let middle = { n: 0, offset: 0 };
    for await (const { n, text, next } of files.lines(id, 1_000)) {
      read.push(text);
      if (n === 21_000) middle = next;
    }
    expect(read).toEqual(lines);
    const rest: string[] = [];
    for await (const { n, text } of files.lines(id, 1_000, middle)) {
      expect(text).toBe(lines[n - 1]);
      rest.push(text);
    }
    expect(rest).toHaveLength(9_000);
  });

  it('leaves nothing behind when it is too large, breaks off, or is not described', async () => {
    const files = filesOf(database);
    const owner = someone();
    const bytes = randomBytes(3 * MEGABYTE);
    const describe = async () => ABOUT;
    let read = 0;
    const counted = async function* () {
      for await (const piece of pieces(bytes)) {
        read += piece.length;
        yield piece;
      }
    };
    await expect(files.create(owner, counted(), { maxBytes: 2 * MEGABYTE, describe })).rejects.toMatchObject({
      code: 'caller_body_too_large',
      message: expect.stringContaining('2 MB'),
    });
    expect(read).toBeLessThan(bytes.length);

    const broken = async function* () {
      yield bytes;
      expect(await rowsOf(owner)).toMatchObject([{ finished: false }]);
      throw new Error('gone');
    };
    await expect(files.create(owner, broken(), { maxBytes: 20 * MEGABYTE, describe })).rejects.toThrow('gone');
    const undescribed = async () => {
      throw new Error('no purpose');
    };
    const upload = files.create(owner, pieces(bytes), { maxBytes: 20 * MEGABYTE, describe: undescribed });
    await expect(upload).rejects.toThrow('no purpose');
    expect(await rowsOf(owner)).toEqual([]);
    const orphans = sql`SELECT 1 FROM file_chunks c WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.id = c.file_id)`;
    expect((await orphans.execute(database.db)).rows).toEqual([]);
  });

  it('may be exactly as large as allowed', async () => {
    const files = filesOf(database);
    const bytes = randomBytes(MEGABYTE);
    const file = await files.create(someone(), pieces(bytes), { maxBytes: MEGABYTE, describe: async () => ABOUT });
    expect(file.bytes).toBe(MEGABYTE);
  });

  it('is its owner’s, and its project’s', async () => {
    const files = filesOf(database);
    const [{ owner }, other] = [someone(), someone()];
    const { id } = await store(files, { owner, project: 'p' }, Buffer.from('x'));
    for (const visible of [undefined, { owner }, { owner, project: 'p' }]) {
      expect(await files.get(id, visible)).toMatchObject({ id, owner, project: 'p' });
    }
    for (const visible of [{ owner: other.owner }, { owner, project: 'q' }]) {
      expect(await files.get(id, visible)).toBeUndefined();
      expect(await files.list({ visible, order: 'desc', limit: 10 })).toEqual([]);
      expect(await files.remove(id, visible)).toBe(false);
    }
    expect(await files.remove(id, { owner })).toBe(true);
    expect(await files.remove(id, { owner })).toBe(false);
    expect(await files.get(id, undefined)).toBeUndefined();
    await expect(collect(files.content(id))).rejects.toMatchObject({ code: 'caller_not_found' });
    expect(await chunksOf(id)).toEqual([]);
  });

  it('that is removed while it is read ends the reading with an error', async () => {
    const files = filesOf(database);
    const { id } = await store(files, someone(), randomBytes(2 * MEGABYTE));
    const content = files.content(id);
    await content.next();
    await files.remove(id, undefined);
    await expect(content.next()).rejects.toMatchObject({ code: 'caller_not_found' });
  });

  it('is listed newest first or last, by purpose, behind one that may be gone', async () => {
    const files = filesOf(database);
    const owner = someone();
    const ids: string[] = [];
    for (const purpose of ['batch', 'user_data', 'batch', 'user_data'] as const) {
      ids.push((await store(files, owner, Buffer.from('x'), { purpose })).id);
    }
    await files.open(newId('file'), owner);
    const list = async (
      filter: { order?: 'asc'; purpose?: 'batch'; after?: string | undefined; limit?: number } = {},
    ) =>
      (await files.list({ visible: { owner: owner.owner }, order: 'desc', limit: 10, ...filter })).map(({ id }) =>
        ids.indexOf(id),
      );
    expect(await list()).toEqual([3, 2, 1, 0]);
    expect(await list({ order: 'asc' })).toEqual([0, 1, 2, 3]);
    expect(await list({ purpose: 'batch' })).toEqual([2, 0]);
    expect(await list({ limit: 2 })).toEqual([3, 2]);
    await files.remove(ids[2] ?? '', undefined);
    expect(await list({ after: ids[2] })).toEqual([1, 0]);
    expect(await list({ after: ids[2], order: 'asc' })).toEqual([3]);
  });

  it('that has expired is gone, and then removed', async () => {
    const files = filesOf(database);
    const owner = someone();
    const { sweep } = createSweepActivities({ ...sweepDeps(database.db), presenceOf: async () => 'running' });
    const [old, young] = await Promise.all(
      [1, 2].map(() => store(files, owner, randomBytes(100), { keepSeconds: 60 })),
    );
    const lifetime = Number(old?.expiresAt) - Number(old?.createdAt);
    expect(lifetime).toBe(60_000);
    await sql`UPDATE files SET expires_at = now() WHERE id = ${old?.id}`.execute(database.db);
    expect(await files.get(old?.id ?? '', undefined)).toBeUndefined();
    expect(await files.remove(old?.id ?? '', undefined)).toBe(false);
    const listed = await files.list({ visible: { owner: owner.owner }, order: 'desc', limit: 10 });
    expect(listed).toMatchObject([{ id: young?.id }]);
    expect(await rowsOf(owner)).toHaveLength(2);

    expect((await sweep()).files).toBeGreaterThan(0);
    expect(await rowsOf(owner)).toEqual([{ id: young?.id, finished: true }]);
    expect(await chunksOf(old?.id ?? '')).toEqual([]);
  });

  it('that was left unfinished is removed, not more at once than asked', async () => {
    const files = filesOf(database);
    const owner = someone();
    await files.removeExpired(1_000);
    const ids = [1, 2, 3].map(() => newId('file'));
    for (const id of ids) {
      await files.open(id, owner);
      await files.append(id, 0, ['x']);
    }
    expect(await files.removeExpired(1_000)).toBe(0);
    await sql`UPDATE files SET expires_at = now() WHERE owner = ${owner.owner}`.execute(database.db);
    await expect(files.append(ids[0] ?? '', 1, ['too late'])).rejects.toThrow(/not open/);
    await expect(files.finish(ids[0] ?? '', ABOUT)).rejects.toThrow(/not open/);
    expect(await files.removeExpired(2)).toBe(2);
    expect(await files.removeExpired(2)).toBe(1);
    expect(await rowsOf(owner)).toEqual([]);
  });

  describe('written in pieces', () => {
    it('has each once, in their order, however often and in whatever order they were written', async () => {
      const files = filesOf(database);
      const pieces = fc.array(fc.array(fc.string({ unit: 'grapheme', maxLength: 5 }), { maxLength: 3 }), {
        maxLength: 5,
      });
      await fc.assert(
        fc.asyncProperty(pieces, fc.array(fc.nat({ max: 4 }), { maxLength: 10 }), async (written, repeats) => {
          const id = newId('file');
          const owner = someone();
          await files.open(id, owner);
          const order = [...repeats.filter((n) => n < written.length), ...written.keys()];
          for (const n of order) {
            await files.append(id, n, written[n] ?? []);
            await files.open(id, owner);
          }
          expect(await files.get(id, undefined)).toBeUndefined();
          await expect(collect(files.content(id))).rejects.toMatchObject({ code: 'caller_not_found' });
          const { bytes } = await files.finish(id, ABOUT);
          const expected = written
            .flat()
            .map((line) => `${line}\n`)
            .join('');
          const content = await collect(files.content(id));
          expect(content.toString()).toBe(Buffer.from(expected).toString());
          expect(bytes).toBe(content.length);
        }),
        { numRuns: 20 },
      );
    });

    it('stays as it is once a piece is written, and once it is finished', async () => {
      const files = filesOf(database);
      const id = newId('file');
      await files.open(id, someone());
      await files.append(id, 0, ['first']);
      await files.append(id, 0, ['other']);
      const finished = await files.finish(id, ABOUT);
      // Who crashed behind the last step does all of it again.
      await files.open(id, someone());
      await files.append(id, 0, ['other']);
      expect(await files.finish(id, { ...ABOUT, filename: 'other' })).toEqual(finished);
      await expect(files.append(id, 1, ['late'])).rejects.toThrow(/not open/);
      await files.discard(id);
      expect((await collect(files.content(id))).toString()).toBe('first\n');
    });

    it('is gone when it is discarded', async () => {
      const files = filesOf(database);
      const owner = someone();
      const id = newId('file');
      await files.open(id, owner);
      await files.append(id, 0, ['x']);
      await files.discard(id);
      expect(await rowsOf(owner)).toEqual([]);
      await expect(files.append(id, 1, ['x'])).rejects.toThrow(/not open/);
      await expect(files.finish(id, ABOUT)).rejects.toThrow(/not open/);
    });
  });
});

onRealPostgres('a file', (database) => {
  it('has every piece whose writing succeeded, also when it is finished meanwhile', async () => {
    const files = filesOf(database);
    for (let round = 0; round < 20; round += 1) {
      const id = newId('file');
      await files.open(id, someone());
      const writing = Array.from({ length: 12 }, (_, n) => files.append(id, n, [`${n}`]).then(() => n));
      const finishing = files.finish(id, ABOUT);
      const written = (await Promise.allSettled(writing)).flatMap((result) =>
        result.status === 'fulfilled' ? [result.value] : [],
      );
      const { bytes } = await finishing;
      const expected = written.map((n) => `${n}\n`).join('');
      expect((await collect(files.content(id))).toString()).toBe(expected);
      expect(bytes).toBe(expected.length);
    }
  });

  it('that is swept by several processes at once is removed once', async () => {
    const files = filesOf(database);
    const owner = someone();
    await files.removeExpired(1_000);
    for (let i = 0; i < 10; i += 1) await store(files, owner, Buffer.from('x'), { keepSeconds: 60 });
    await sql`UPDATE files SET expires_at = now() WHERE owner = ${owner.owner}`.execute(database.db);
    const removed = await Promise.all([1, 2, 3, 4].map(() => files.removeExpired(10)));
    expect(removed.reduce((sum, count) => sum + count, 0)).toBe(10);
  });
});
