import { TextDecoder } from 'node:util';
import { HoldfastError } from '../domain/errors.ts';

/** Where a line begins. */
export interface LinePosition {
  /** Counted from 1. */
  readonly n: number;
  /** In bytes from the file's start. */
  readonly offset: number;
}

export interface Line extends LinePosition {
  /** Without its end. */
  readonly text: string;
  /** Where to go on behind it. */
  readonly next: LinePosition;
}

export const FIRST_LINE: LinePosition = { n: 1, offset: 0 };

const LF = 0x0a;

/**
 * The lines of UTF-8 text, ended by LF or CRLF, the last one by the end of the text. Blank lines are counted and left out.
 * @param content From `from` on.
 * @param maxBytes Of one line. A longer one, or one that is not UTF-8, is `caller_invalid_request`.
 */
export async function* readLines(
  content: AsyncIterable<Buffer>,
  maxBytes: number,
  from: LinePosition = FIRST_LINE,
): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let position = from;
  let pending: Buffer[] = [];
  let size = 0;

  const add = (part: Buffer): void => {
    size += part.length;
    if (size > maxBytes) {
      throw new HoldfastError('caller_invalid_request', `Line ${position.n} is longer than ${maxBytes} bytes.`);
    }
    pending.push(part);
  };
  const endLine = (endBytes: 0 | 1): Line => {
    const next = { n: position.n + 1, offset: position.offset + size + endBytes };
    const line = { ...position, text: decode(decoder, Buffer.concat(pending), position.n), next };
    position = next;
    pending = [];
    size = 0;
    return line;
  };

  for await (const chunk of content) {
    let start = 0;
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      add(chunk.subarray(start, end));
      start = end + 1;
      const line = endLine(1);
      if (line.text.trim() !== '') yield line;
    }
    add(chunk.subarray(start));
  }
  const last = endLine(0);
  if (last.text.trim() !== '') yield last;
}

function decode(decoder: TextDecoder, bytes: Buffer, n: number): string {
  try {
    return decoder.decode(bytes).replace(/\r$/, '');
  } catch {
    throw new HoldfastError('caller_invalid_request', `Line ${n} is not valid UTF-8.`);
  }
}
