import type { BatchCall, BatchLine, BatchLineEnd, ProviderBatches } from '../../providers/batches.ts';
import { adapterOf, request } from './adapters.ts';

/** The batch API of an adapter as the gateway would make it from `config`. */
export function batchesOf(config: Record<string, unknown>): ProviderBatches {
  const { batches } = adapterOf(config);
  if (!batches) throw new Error('no batches');
  return batches;
}

export const line = (id: string, overrides: Partial<BatchLine> = {}): BatchLine => ({
  id,
  request: request(),
  model: 'the-model',
  maxOutputTokens: 4_096,
  ...overrides,
});

export const batchCall = (overrides: Partial<BatchCall> = {}): BatchCall => ({
  signal: new AbortController().signal,
  ...overrides,
});

export async function ends(results: AsyncIterable<BatchLineEnd>): Promise<BatchLineEnd[]> {
  const collected: BatchLineEnd[] = [];
  for await (const end of results) collected.push(end);
  return collected;
}

/** The lines of a JSONL file. */
export const jsonl = (...lines: readonly object[]): Buffer =>
  Buffer.from(lines.map((each) => `${JSON.stringify(each)}\n`).join(''));
