import { ProviderError } from './errors.ts';

/**
 * The lines of a JSONL file of results while it is downloaded, one in memory at a time.
 * @throws {ProviderError} `provider_server_error` for a line that is not a result.
 */
export async function* resultLines<Line extends { readonly custom_id: string }>(
  { body }: Response,
  provider: string,
): AsyncGenerator<Line> {
  for await (const text of linesOf(body ?? [])) {
    if (text.trim()) yield parseLine<Line>(text, provider);
  }
}

// Not `node:readline`: it also breaks lines at U+2028, which JSON allows inside of strings.
async function* linesOf(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    const pieces = decoder.decode(chunk, { stream: true }).split('\n');
    const last = pieces.pop() ?? '';
    for (const piece of pieces) {
      yield rest + piece;
      rest = '';
    }
    rest += last;
  }
  yield rest;
}

function parseLine<Line extends { readonly custom_id: string }>(text: string, provider: string): Line {
  const line = parseJson(text) as Line | null | undefined;
  if (typeof line?.custom_id === 'string') return line;
  throw new ProviderError('provider_server_error', `${provider}: a line of the results cannot be read`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Its message would quote the answer.
    return undefined;
  }
}
