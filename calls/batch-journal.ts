import type { AttemptKey } from '../domain/attempt.ts';
import type { ModelRequest, ModelResult } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { Price } from '../domain/money.ts';
import type { BatchLineEnd } from '../providers/batches.ts';
import type { Attempts } from '../storage/postgres/attempts.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import { account } from './usage.ts';

/** A claimed call that went through a provider's batch API. */
export interface BatchedAttempt {
  readonly key: AttemptKey;
  readonly request: ModelRequest | undefined;
  /** null for a model without a price. */
  readonly price: Price | null;
  /** Milliseconds since the batch was made. */
  readonly latencyMs: number;
}

/** Journals how such a call ended, at the price of a batch. Can be repeated. */
export async function journalLineEnd(
  { attempts, bodies }: { readonly attempts: Attempts; readonly bodies: Bodies },
  { key, request, price, latencyMs }: BatchedAttempt,
  end: BatchLineEnd,
): Promise<void> {
  if ('error' in end) {
    const state = end.error.code === 'gateway_cancelled' ? 'cancelled' : 'failed';
    await attempts.finish(key, { state, latencyMs, usage: null, costNanos: 0, error: end.error.info });
    return;
  }
  if (!request) throw new HoldfastError('gateway_internal', 'The request’s body is missing.');
  const priced = await account(request, end.answer, price, { batch: true });
  const result: ModelResult = { ...end.answer, usage: priced.usage };
  await attempts.finish(key, { state: 'succeeded', latencyMs, ...priced, response: bodies.seal(result) });
}
