import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import type OpenAI from 'openai';
import { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import { eventually, type Json, MASTER_KEY, startGateway, type TestGateway } from '../support/gateway.ts';
import { inject } from '../support/inject.ts';

const MEGABYTE = 1024 * 1024;
const DAY_SECONDS = 24 * 3_600;
const YAML = `
providers: { demo: { type: demo } }
server: { body_limit_mb: 1 }
files: { max_mb: 8 }
`;

let gateway: TestGateway;
/** To look into; the embedded database has a connection for the gateway only. */
let db: Sql | undefined;
beforeAll(async () => {
  gateway = await startGateway(YAML, 'configured');
  const url = inject('postgres');
  if (url) db = connectDatabase({ url, maxConnections: 1, onError: () => {} });
});
afterAll(async () => {
  await gateway.stop();
  await db?.destroy();
});

const unique = () => crypto.randomUUID();
const makeKey = async (settings: Record<string, unknown> = {}) => {
  const { key } = await gateway.json('/config/virtual-keys', { json: { name: 'test', ...settings } });
  return key as string;
};
/** A client of a key of its own, which sees no other test's files. */
const makeClient = async () => gateway.clientWith(await makeKey({ team: unique() }));
const upload = (client: OpenAI, content = 'x', purpose: OpenAI.FilePurpose = 'user_data') =>
  toFile(Buffer.from(content), 'x.txt').then((file) => client.files.create({ file, purpose }));
const filesInDatabase = async () => {
  if (!db) return { files: 0, chunks: 0 };
  const { count } = db.fn;
  const { files } = await db.selectFrom('files').select(count<number>('id').as('files')).executeTakeFirstOrThrow();
  const query = db.selectFrom('file_chunks').select(count<number>('n').as('chunks'));
  return { files, chunks: (await query.executeTakeFirstOrThrow()).chunks };
};

/** Text of many alphabets, of about `bytes` bytes. */
function randomText(bytes: number): Buffer {
  const codes = new Uint32Array(randomBytes(bytes).buffer, 0, Math.floor(bytes / 12));
  return Buffer.from(Array.from(codes, (code) => String.fromCodePoint(code % 0xd800, 0x1f600 + (code % 64))).join(''));
}

describe('the official client', () => {
  it('uploads a buffer and gets the same bytes back', async () => {
    const client = await makeClient();
    const content = randomText(5 * MEGABYTE);
    expect(content.length).toBeGreaterThan(2 * MEGABYTE);
    const file = await client.files.create({ file: await toFile(content, 'Übung #1.jsonl'), purpose: 'batch' });
    expect(file).toEqual({
      id: expect.stringMatching(/^file-/),
      object: 'file',
      bytes: content.length,
      created_at: expect.any(Number),
      expires_at: file.created_at + 30 * DAY_SECONDS,
      filename: 'Übung #1.jsonl',
      purpose: 'batch',
      status: 'processed',
    });
    expect(Math.abs(file.created_at - Date.now() / 1000)).toBeLessThan(60);
    expect(await client.files.retrieve(file.id)).toEqual(file);
    expect(await client.files.waitForProcessing(file.id)).toEqual(file);

    const response = await client.files.content(file.id);
    expect(response.headers.get('content-type')).toBe('application/octet-stream');
    expect(response.headers.get('content-length')).toBe(String(content.length));
    expect(response.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''%C3%9Cbung%20%231.jsonl");
    expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true);
  });

  it('uploads a stream', async () => {
    const client = await makeClient();
    const content = randomBytes(3 * MEGABYTE);
    const file = await client.files.create({
      file: await toFile(Readable.from([content]), 's.bin'),
      purpose: 'user_data',
    });
    expect(file).not.toHaveProperty('expires_at');
    expect(Buffer.from(await (await client.files.content(file.id)).arrayBuffer()).equals(content)).toBe(true);
  });

  it('may send the purpose before the file or behind it', async () => {
    const client = await makeClient();
    const file = await toFile(Buffer.from('x'), 'x.txt');
    expect((await client.files.create({ purpose: 'evals', file })).purpose).toBe('evals');
    expect((await client.files.create({ file, purpose: 'vision' })).purpose).toBe('vision');
  });

  it('says how long a file is kept', async () => {
    const client = await makeClient();
    const file = await toFile(Buffer.from('x'), 'x.txt');
    const expires_after = { anchor: 'created_at', seconds: 7_200 } as const;
    const kept = await client.files.create({ file, purpose: 'batch', expires_after });
    expect(kept.expires_at).toBe(kept.created_at + 7_200);
    for (const seconds of [3_599, 30 * DAY_SECONDS + 1, 4_000.5]) {
      const wrong = client.files.create({ file, purpose: 'batch', expires_after: { ...expires_after, seconds } });
      await expect(wrong).rejects.toMatchObject({ status: 400, param: 'expires_after[seconds]' });
    }
  });

  it('pages through its files, also while it deletes them', async () => {
    const client = await makeClient();
    const ids: string[] = [];
    for (const purpose of ['batch', 'user_data', 'batch', 'batch', 'batch'] as const) {
      ids.push((await upload(client, 'x', purpose)).id);
    }
    const first = await client.files.list({ limit: 2 }).asResponse();
    const page = { object: 'list', has_more: true, first_id: ids[4], last_id: ids[3] };
    expect(await first.json()).toEqual({
      ...page,
      data: [ids[4], ids[3]].map((id) => expect.objectContaining({ id })),
    });
    const all = async (params: OpenAI.FileListParams) => {
      const found: string[] = [];
      for await (const { id } of client.files.list({ limit: 2, ...params })) found.push(id);
      return found;
    };
    expect(await all({})).toEqual([...ids].reverse());
    expect(await all({ order: 'asc' })).toEqual(ids);
    expect(await all({ purpose: 'batch', order: 'asc' })).toEqual(ids.filter((id) => id !== ids[1]));
    expect((await client.files.list()).data).toHaveLength(5);

    for await (const { id } of client.files.list({ limit: 2 })) {
      expect(await client.files.delete(id)).toEqual({ id, object: 'file', deleted: true });
    }
    const none = { object: 'list', data: [], has_more: false, first_id: null, last_id: null };
    expect(await (await client.files.list().asResponse()).json()).toEqual(none);
    await expect(client.files.retrieve(ids[0] ?? '')).rejects.toMatchObject({ status: 404, code: 'not_found' });
    await expect(client.files.content(ids[0] ?? '')).rejects.toMatchObject({ status: 404 });
    await expect(client.files.delete(ids[0] ?? '')).rejects.toMatchObject({ status: 404 });
  });
});

describe('a file', () => {
  it('is its team’s; others do not see that there is one, and the master key sees it', async () => {
    const [team, project] = [unique(), unique()];
    const owner = gateway.clientWith(await makeKey({ team, project }));
    const { id } = await upload(owner, 'ours');
    const strangers = [{ team: unique() }, {}, { team, project: unique() }, { team: unique(), roles: ['admin'] }];
    for (const settings of strangers) {
      const stranger = gateway.clientWith(await makeKey(settings));
      await expect(stranger.files.retrieve(id)).rejects.toMatchObject({ status: 404 });
      await expect(stranger.files.content(id)).rejects.toMatchObject({ status: 404 });
      await expect(stranger.files.delete(id)).rejects.toMatchObject({ status: 404 });
      expect((await stranger.files.list()).data).toEqual([]);
    }
    for (const friend of [owner, gateway.clientWith(await makeKey({ team })), gateway.client]) {
      expect((await friend.files.retrieve(id)).id).toBe(id);
      expect((await friend.files.list({ limit: 1 })).data).toMatchObject([{ id }]);
      expect(await (await friend.files.content(id)).text()).toBe('ours');
    }
  });

  it('cannot be reached by what is no id', async () => {
    for (const id of ['none', 'file-', '%00', "'", '%F0%9F%98%80']) {
      for (const [path, method] of [
        ['', 'GET'],
        ['', 'DELETE'],
        ['/content', 'GET'],
      ]) {
        expect((await gateway.fetch(`/v1/files/${id}${path}`, { method: method ?? '' })).status).toBe(404);
      }
    }
    for (const query of ['after=%00', 'limit=0', 'limit=10001', 'limit=x', 'order=up', 'purpose=x']) {
      expect((await gateway.fetch(`/v1/files?${query}`)).status).toBe(400);
    }
  });
});

const BOUNDARY = 'b0undary';
const FORM = `multipart/form-data; boundary=${BOUNDARY}`;
const field = (name: string, value: string) =>
  `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
const filePart = (content: string, name = 'file', filename = 'x.txt') =>
  `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"; filename="${filename}"\r\n` +
  `content-type: application/octet-stream\r\n\r\n${content}\r\n`;
const END = `--${BOUNDARY}--\r\n`;
const PURPOSE = field('purpose', 'user_data');

const post = (body: string | Buffer | undefined, type: string | undefined = FORM) =>
  gateway.fetch('/v1/files', {
    method: 'POST',
    ...(body !== undefined && { body }),
    headers: type ? { 'content-type': type } : {},
  });
async function problem(response: Response) {
  const { error } = (await response.json()) as Json;
  return { status: response.status, param: error.param, code: error.code, message: error.message };
}

describe('an upload that is none', () => {
  it.each<[string, string, string | null]>([
    ['an empty form', '', 'file'],
    ['a form without parts', END, 'file'],
    ['no file', PURPOSE + END, 'file'],
    ['a file without a filename', PURPOSE + field('file', 'text') + END, 'file'],
    ['no purpose', filePart('x') + END, 'purpose'],
    ['an unknown purpose', filePart('x') + field('purpose', 'fun') + END, 'purpose'],
    ['a purpose only the gateway has', filePart('x') + field('purpose', 'batch_output') + END, 'purpose'],
    ['an unknown field', PURPOSE + field('porpoise', 'x') + filePart('x') + END, 'porpoise'],
    ['a file of another name', PURPOSE + filePart('x', 'document') + END, 'document'],
    ['two files', PURPOSE + filePart('x') + filePart('y') + END, 'file'],
    [
      'an expiry without its anchor',
      PURPOSE + field('expires_after[seconds]', '7200') + filePart('x') + END,
      'expires_after',
    ],
    ['an unknown anchor', PURPOSE + field('expires_after[anchor]', 'x') + filePart('x') + END, 'expires_after[anchor]'],
    [
      'too many fields',
      PURPOSE + Array.from({ length: 30 }, (_, i) => field(`f${i}`, 'x')).join('') + filePart('x') + END,
      'file',
    ],
    ['a prototype trick', PURPOSE + field('__proto__', 'x') + filePart('x') + END, 'file'],
    ['a name with a NUL', PURPOSE + filePart('x', 'file', 'a\0b') + END, 'file'],
    ['an endless name', PURPOSE + filePart('x', 'file', 'a'.repeat(501)) + END, 'file'],
    ['another boundary', `--other\r\n\r\nx\r\n--other--`, 'file'],
    ['garbage', randomBytes(10_000).toString('latin1'), 'file'],
    ['an end in the middle of the file', PURPOSE + filePart('x'.repeat(100_000)), 'file'],
  ])('%s is a 400', async (_name, body, param) => {
    const before = await filesInDatabase();
    expect(await problem(await post(body))).toMatchObject({ status: 400, code: 'invalid_request', param });
    expect(await filesInDatabase()).toEqual(before);
  });

  it('without a boundary is a 400, of another content type a 415', async () => {
    expect(await problem(await post(PURPOSE, 'multipart/form-data'))).toMatchObject({ status: 400 });
    for (const type of ['application/json', 'text/plain', 'application/octet-stream', 'nonsense']) {
      expect(await problem(await post('{', type))).toMatchObject({
        status: 415,
        code: 'unsupported_media_type',
        message: 'The request body must be multipart/form-data.',
      });
    }
    expect((await gateway.fetch('/v1/files', { method: 'POST' })).status).toBe(415);
  });

  it('cut anywhere is answered with a 400 and leaves nothing', async () => {
    const form = field('expires_after[anchor]', 'created_at') + filePart('content') + field('purpose', 'batch') + END;
    const before = await filesInDatabase();
    // Without its last line end it is a form all the same.
    for (let end = 0; end < form.length - '--\r\n'.length; end += 1) {
      expect((await post(form.slice(0, end))).status).toBe(400);
    }
    expect(await filesInDatabase()).toEqual(before);
  });

  it('leaves the connection usable', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const send = (body: string): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        const headers = { authorization: `Bearer ${MASTER_KEY}`, 'content-type': FORM };
        const sent = httpRequest(`${gateway.url}/v1/files`, { method: 'POST', agent, headers }, resolve);
        sent.on('error', reject).end(body);
      });
    const large = 'x'.repeat(2 * MEGABYTE);
    const bodies = [PURPOSE + filePart(large, 'other') + END, PURPOSE + field('file', 'x') + filePart(large) + END];
    for (const [body, status] of [
      ...bodies.map((body) => [body, 400] as const),
      [PURPOSE + filePart('x') + END, 200] as const,
    ]) {
      const response = await send(body);
      response.resume();
      expect(response.statusCode).toBe(status);
    }
    agent.destroy();
  });
});

describe('an upload that is too large', () => {
  const tooLarge = { status: 413, code: 'request_too_large', message: expect.stringContaining('8 MB') };

  it('is refused, whether it says so or not, and leaves nothing', async () => {
    const before = await filesInDatabase();
    const client = await makeClient();
    const file = await toFile(Buffer.alloc(9 * MEGABYTE), 'large.bin');
    await expect(client.files.create({ file, purpose: 'user_data' })).rejects.toMatchObject(tooLarge);

    const form = Buffer.concat([
      Buffer.from(PURPOSE + filePart('').slice(0, -2)),
      Buffer.alloc(9 * MEGABYTE),
      Buffer.from(END),
    ]);
    const body = Readable.toWeb(Readable.from(slices(form))) as ReadableStream;
    const unsized = await gateway.fetch('/v1/files', {
      method: 'POST',
      body,
      headers: { 'content-type': FORM },
      ...({ duplex: 'half' } as RequestInit),
    });
    expect(await problem(unsized)).toMatchObject(tooLarge);
    await eventually(async () => JSON.stringify(await filesInDatabase()) === JSON.stringify(before));
  });

  it('is refused before it is sent when it says so', async () => {
    const { hostname, port } = new URL(gateway.url);
    const socket = connect(Number(port), hostname);
    socket.write(
      `POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${MASTER_KEY}\r\n` +
        `content-type: ${FORM}\r\ncontent-length: ${9 * MEGABYTE}\r\n\r\n`,
    );
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1.1 413 /);
    socket.destroy();
  });

  it('is not one that has just the size', async () => {
    const client = await makeClient();
    const file = await toFile(Buffer.alloc(8 * MEGABYTE), 'large.bin');
    expect((await client.files.create({ file, purpose: 'user_data' })).bytes).toBe(8 * MEGABYTE);
  });
});

function* slices(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += 65_536) yield bytes.subarray(start, start + 65_536);
}

describe.skipIf(inject('postgres') === null)('an upload that breaks off', () => {
  it('leaves nothing, and was seen by nobody', async () => {
    const client = await makeClient();
    const before = await filesInDatabase();
    const { hostname, port } = new URL(gateway.url);
    const socket = connect(Number(port), hostname);
    socket.write(
      `POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${client.apiKey}\r\n` +
        `content-type: ${FORM}\r\ncontent-length: ${6 * MEGABYTE}\r\n\r\n${PURPOSE}${filePart('')}`,
    );
    socket.write(randomBytes(3 * MEGABYTE));
    await eventually(async () => (await filesInDatabase()).chunks > before.chunks);
    expect((await client.files.list()).data).toEqual([]);
    socket.destroy();
    await eventually(async () => JSON.stringify(await filesInDatabase()) === JSON.stringify(before));
  });
});

describe('the embedded database, which has one connection', () => {
  it('takes and gives several files at once', async () => {
    const embedded = await startGateway(YAML, 'embedded');
    try {
      const rounds = Array.from({ length: 4 }, async () => {
        const bytes = randomBytes(3 * MEGABYTE);
        const file = await toFile(bytes, 'x.bin');
        const { id } = await embedded.client.files.create({ file, purpose: 'user_data' });
        const content = await (await embedded.client.files.content(id)).arrayBuffer();
        await embedded.client.files.delete(id);
        return Buffer.from(content).equals(bytes);
      });
      expect(await Promise.all(rounds)).toEqual([true, true, true, true]);
    } finally {
      await embedded.stop();
    }
  });
});

describe('the API’s description', () => {
  it('has uploads as forms and content as bytes', async () => {
    const { paths } = await gateway.json('/openapi.json');
    const { content } = paths['/v1/files'].post.requestBody;
    expect(Object.keys(content)).toEqual(['multipart/form-data']);
    const { schema } = content['multipart/form-data'];
    expect(schema.required.sort()).toEqual(['file', 'purpose']);
    expect(schema.properties.file).toEqual({ type: 'string', format: 'binary' });
    expect(paths['/v1/files/{id}/content'].get.responses['200'].content).toEqual({
      'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
    });
  });
});
