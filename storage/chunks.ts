import { HoldfastError } from '../domain/errors.ts';

const MEGABYTE = 1024 * 1024;
const CHUNK_BYTES = MEGABYTE;

/** `content` in pieces of a megabyte or a little more, and what is left. Throws `caller_body_too_large`. */
export async function* inChunks(content: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let size = 0;
  let total = 0;
  for await (const part of content) {
    size += part.length;
    total += part.length;
    if (total > maxBytes) throw fileTooLarge(maxBytes);
    parts.push(part);
    if (size < CHUNK_BYTES) continue;
    yield Buffer.concat(parts);
    parts = [];
    size = 0;
  }
  if (size > 0) yield Buffer.concat(parts);
}

export const fileTooLarge = (maxBytes: number): HoldfastError =>
  new HoldfastError('caller_body_too_large', `The file is larger than the limit of ${maxBytes / MEGABYTE} MB.`);
