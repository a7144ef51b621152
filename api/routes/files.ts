import { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { defaultKeepSeconds, FILE_PURPOSES, KEEP_SECONDS, UPLOAD_PURPOSES } from '../../domain/files.ts';
import { toSeconds } from '../../domain/time.ts';
import { validated } from '../../domain/validation.ts';
import { fileTooLarge } from '../../storage/chunks.ts';
import type { FileDescription, StoredFile } from '../../storage/postgres/files.ts';
import { visibleTo } from '../auth/caller.ts';
import { unsupportedMediaType } from '../plugins/errors.ts';
import { UploadForm } from '../upload-form.ts';
import type { Routes } from './route.ts';

const MEGABYTE = 1024 * 1024;
/** Of the form around the file: a few short fields and its boundaries. */
const FORM_BYTES = 64 * 1024;
const FORM = 'multipart/form-data';
const BINARY = 'application/octet-stream';

const fields = {
  purpose: z.enum(UPLOAD_PURPOSES),
  'expires_after[anchor]': z.literal('created_at').optional(),
  'expires_after[seconds]': z.coerce.number().int().min(KEEP_SECONDS.min).max(KEEP_SECONDS.max).optional(),
};
const binary = z.string().meta({ format: 'binary' });

const form = z
  .strictObject(fields)
  .refine(
    (given) => (given['expires_after[anchor]'] === undefined) === (given['expires_after[seconds]'] === undefined),
    { path: ['expires_after'], message: 'needs both anchor and seconds' },
  );

const fileObject = z.object({
  id: z.string(),
  object: z.literal('file'),
  bytes: z.number(),
  /** Seconds since the epoch. */
  created_at: z.number(),
  expires_at: z.number().optional(),
  filename: z.string(),
  purpose: z.enum(FILE_PURPOSES),
  status: z.literal('processed'),
});

/** An id as it may be compared in the database: text there holds no NUL. */
const comparable = z.string().regex(/^[\w-]+$/, 'must be the id of a file');

const page = z.object({
  after: comparable.optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
  order: z.enum(['asc', 'desc']).default('desc'),
  purpose: z.enum(FILE_PURPOSES).optional(),
});

/** OpenAI's files: the input and output of batches, and what callers want to keep. */
export const files: Routes = async (app, { files, config }) => {
  const maxBytes = config.gateway.files.max_mb * MEGABYTE;
  const needs = 'models:call';
  const tags = ['files'];
  const byId = { params: z.object({ id: z.string() }) };

  app.removeAllContentTypeParsers();
  // The size of a file is `files.create`'s to limit, which stops reading at once.
  const limits = { files: 1, fields: 10, parts: 20, fieldSize: 1024, fileSize: Number.POSITIVE_INFINITY };
  await app.register(multipart, { limits });

  const upload = {
    summary: 'Upload a file',
    description:
      'A form with the fields in any order. Files with `purpose=batch` expire after 30 days unless they say otherwise; ' +
      'others are kept until they are deleted.',
    tags,
    consumes: [FORM],
    body: z.object({ ...fields, file: binary }),
    response: { 200: fileObject },
  };
  app.post(
    '/v1/files',
    // The schema describes the form to readers; it is validated as it arrives.
    { config: { needs }, schema: upload, validatorCompiler: () => (value) => ({ value }) },
    async (request) => {
      if (!request.isMultipart()) throw unsupportedMediaType(FORM);
      if (Number(request.headers['content-length'] ?? 0) > maxBytes + FORM_BYTES) throw fileTooLarge(maxBytes);
      const form = new UploadForm(request.parts());
      try {
        const { filename, content } = await form.file();
        requireStorable(filename);
        const describe = async () => describeUpload(filename, await form.rest());
        return toJson(await files.create(request.caller, content, { maxBytes, describe }));
      } finally {
        // What is left unread would be in the way of the connection's next request.
        request.raw.unpipe().resume();
      }
    },
  );

  const list = {
    summary: 'Files, newest first',
    tags,
    querystring: page,
    response: {
      200: z.object({
        object: z.literal('list'),
        data: z.array(fileObject),
        first_id: z.string().nullable(),
        last_id: z.string().nullable(),
        has_more: z.boolean(),
      }),
    },
  };
  app.get('/v1/files', { config: { needs }, schema: list }, async ({ query, caller }) => {
    const found = await files.list({ ...query, visible: visibleTo(caller), limit: query.limit + 1 });
    const data = found.slice(0, query.limit).map(toJson);
    return {
      object: 'list' as const,
      data,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: found.length > query.limit,
    };
  });

  const read = { summary: 'One file', tags, ...byId, response: { 200: fileObject } };
  app.get('/v1/files/:id', { config: { needs }, schema: read }, async ({ params, caller }) => {
    const file = isId(params.id) && (await files.get(params.id, visibleTo(caller)));
    if (!file) throw notFound(params.id);
    return toJson(file);
  });

  const remove = {
    summary: 'Delete a file',
    tags,
    ...byId,
    response: { 200: z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) }) },
  };
  app.delete('/v1/files/:id', { config: { needs }, schema: remove }, async ({ params, caller }) => {
    if (!isId(params.id) || !(await files.remove(params.id, visibleTo(caller)))) throw notFound(params.id);
    return { id: params.id, object: 'file' as const, deleted: true as const };
  });

  const content = {
    summary: 'The content of a file',
    tags,
    ...byId,
    response: { 200: { description: 'As it was uploaded.', content: { [BINARY]: { schema: binary } } } },
  };
  app.get(
    '/v1/files/:id/content',
    // To HEAD, all of it would be read.
    { config: { needs }, schema: content, exposeHeadRoute: false },
    async ({ params, caller }, reply) => {
      const file = isId(params.id) && (await files.get(params.id, visibleTo(caller)));
      if (!file) throw notFound(params.id);
      const bytes: unknown = Readable.from(files.content(file.id), { objectMode: false });
      return reply
        .type(BINARY)
        .header('content-length', file.bytes)
        .header('content-disposition', `attachment; filename*=UTF-8''${encodeName(file.filename)}`)
        .header('x-content-type-options', 'nosniff')
        .send(bytes as string);
    },
  );
};

const isId = (id: string): boolean => comparable.safeParse(id).success;
const notFound = (id: string) => new HoldfastError('caller_not_found', `There is no file '${id}'.`);

const MAX_FILENAME_CHARACTERS = 500;

function requireStorable(filename: string): void {
  if (filename.length <= MAX_FILENAME_CHARACTERS && !filename.includes('\0')) return;
  const message = `A filename has at most ${MAX_FILENAME_CHARACTERS} characters, and none of them is NUL.`;
  throw new HoldfastError('caller_invalid_request', message, { param: 'file' });
}

function describeUpload(filename: string, given: Readonly<Record<string, unknown>>): FileDescription {
  const { purpose, 'expires_after[seconds]': seconds } = validated(form, given);
  return { filename, purpose, keepSeconds: seconds ?? defaultKeepSeconds(purpose) };
}

/** As RFC 5987 has it, which leaves fewer characters alone than the function does. */
const encodeName = (name: string): string =>
  encodeURIComponent(name).replace(/['()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);

const toJson = (file: StoredFile): z.infer<typeof fileObject> => ({
  id: file.id,
  object: 'file',
  bytes: file.bytes,
  created_at: toSeconds(file.createdAt),
  ...(file.expiresAt && { expires_at: toSeconds(file.expiresAt) }),
  filename: file.filename,
  purpose: file.purpose,
  status: 'processed',
});
