import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIRST_LINE, type Line, type LinePosition, readLines } from '../../storage/lines.ts';

/** `bytes` cut at each of `cuts`. */
async function* cutAt(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Buffer> {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let start = 0;
  for (const end of ends) {
    yield bytes.subarray(start, end);
    start = end;
  }
}
async function all(lines: AsyncIterable<Line>): Promise<Line[]> {
  const read: Line[] = [];
  for await (const line of lines) read.push(line);
  return read;
}
const linesOf = (text: string | Buffer, cuts: readonly number[] = [], maxBytes = 1_000) =>
  all(readLines(cutAt(Buffer.from(text), cuts), maxBytes));
const texts = (lines: readonly Line[]) => lines.map(({ n, text }) => ({ n, text }));

describe('lines', () => {
  it('end with LF, CRLF or the text, and are counted when they are blank', async () => {
    expect(texts(await linesOf('one\r\n\n \t\r\nfour\nfive'))).toEqual([
      { n: 1, text: 'one' },
      { n: 4, text: 'four' },
      { n: 5, text: 'five' },
    ]);
    expect(texts(await linesOf('one\n'))).toEqual([{ n: 1, text: 'one' }]);
    expect(await linesOf('')).toEqual([]);
    expect(texts(await linesOf('a\rb'))).toEqual([{ n: 1, text: 'a\rb' }]);
  });

  it('are the same wherever their bytes are cut', async () => {
    const line = fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.replaceAll(/[\r\n\uFEFF]/g, ''));
    const ending = fc.constantFrom('\n', '\r\n');
    const anyText = fc.array(fc.tuple(line, ending), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(anyText, line, fc.array(fc.nat()), async (ended, last, cuts) => {
        const text = ended.map((parts) => parts.join('')).join('') + last;
        const expected = [...ended.map(([text]) => text), last]
          .map((text, i) => ({ n: i + 1, text }))
          .filter(({ text }) => text.trim() !== '');
        expect(texts(await linesOf(text, cuts))).toEqual(expected);
      }),
    );
  });

  it('can be gone on with behind each of them', async () => {
    const bytes = Buffer.from('{"a":"ü"}\r\n\n{"b":"😀"}\n\r\n{"c":1}');
    const whole = await linesOf(bytes);
    expect(whole).toHaveLength(3);
    const from = (position: LinePosition) => all(readLines(cutAt(bytes.subarray(position.offset), [3]), 100, position));
    expect(await from(FIRST_LINE)).toEqual(whole);
    for (const [i, line] of whole.entries()) {
      expect(await from(line.next)).toEqual(whole.slice(i + 1));
      expect(bytes.subarray(line.offset).toString().startsWith(line.text)).toBe(true);
    }
  });

  it('of more bytes than allowed are refused before they are all there', async () => {
    const endless = async function* () {
      yield Buffer.from('short\n');
      for (;;) yield Buffer.alloc(10, 'x');
    };
    await expect(all(readLines(endless(), 100))).rejects.toMatchObject({
      code: 'caller_invalid_request',
      message: 'Line 2 is longer than 100 bytes.',
    });
    expect(await linesOf('ü'.repeat(50), [], 100)).toHaveLength(1);
    await expect(linesOf(`${'ü'.repeat(50)}x`, [], 100)).rejects.toThrow('Line 1');
  });

  it('that are not UTF-8 are refused by their number', async () => {
    const bytes = Buffer.concat([Buffer.from('fine\n\n'), Buffer.of(0xc3, 0x28), Buffer.from('\n')]);
    await expect(linesOf(bytes)).rejects.toMatchObject({
      code: 'caller_invalid_request',
      message: 'Line 3 is not valid UTF-8.',
    });
  });

  it('do not begin with a byte order mark', async () => {
    expect(texts(await linesOf('\uFEFF{}\n'))).toEqual([{ n: 1, text: '{}' }]);
  });
});
