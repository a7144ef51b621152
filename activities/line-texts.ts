import { HoldfastError } from '../domain/errors.ts';
import type { NewLine } from '../storage/postgres/batch-lines.ts';
import type { Files } from '../storage/postgres/files.ts';

export interface LineTextDeps {
  readonly files: Files;
  readonly maxLineBytes: number;
}

/** Lines of a file by their numbers, read in one go from the first to the last; none of a file that is gone. */
export async function textsOf(
  { files, maxLineBytes }: LineTextDeps,
  fileId: string,
  lines: readonly Pick<NewLine, 'n' | 'offset'>[],
): Promise<ReadonlyMap<number, string>> {
  const texts = new Map<number, string>();
  const [first] = lines;
  const last = lines.at(-1);
  if (!first || !last) return texts;
  const wanted = new Set(lines.map(({ n }) => n));
  try {
    for await (const { n, text } of files.lines(fileId, maxLineBytes, first)) {
      if (wanted.has(n)) texts.set(n, text);
      if (n >= last.n) break;
    }
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== 'caller_not_found') throw error;
  }
  return texts;
}
