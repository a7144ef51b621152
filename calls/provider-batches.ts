import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { ModelRequest } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { ModelCall } from '../domain/model-call.ts';
import type { ProviderAdapter } from '../providers/adapter.ts';
import {
  type BatchCall,
  type BatchLine,
  type BatchLineEnd,
  expiredLine,
  type ProviderBatches,
} from '../providers/batches.ts';
import { ProviderError } from '../providers/errors.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { Attempts } from '../storage/postgres/attempts.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import type { ProviderBatchStore, StoredProviderBatch } from '../storage/postgres/provider-batches.ts';
import { journalLineEnd } from './batch-journal.ts';
import type { ChosenKey, Credentials } from './credentials.ts';

export interface ProviderBatchCallsDeps {
  readonly attempts: Attempts;
  readonly bodies: Bodies;
  readonly credentials: Credentials;
  readonly providers: ProviderRegistry;
  readonly providerBatches: ProviderBatchStore;
  readonly logger: Logger;
}

/** Milliseconds that one call of a batch API may take; a submit uploads up to 32 MB. */
const CALL_TIMEOUT_MS = 5 * 60_000;
/** A submit whose answer was lost may become visible a moment later. */
const LOOK_AGAIN_MS = [5_000, 20_000, 0];
/** Reading the results of tens of thousands of lines takes longer. */
const RESULTS_TIMEOUT_MS = 60 * 60_000;

/**
 * Calls that go through the providers' own batch APIs, in the same journal as all others: an attempt a line, claimed by
 * the provider batch before it is submitted, with its outcome before anybody sees the answer.
 */
export class ProviderBatchCalls {
  private readonly deps: ProviderBatchCallsDeps;

  constructor(deps: ProviderBatchCallsDeps) {
    this.deps = deps;
  }

  /** The adapter of a call's first target, if it has a batch API. */
  adapterFor({ targets: [target] }: ModelCall): (ProviderAdapter & { readonly batches: ProviderBatches }) | undefined {
    const adapter = this.deps.providers.get(target?.provider ?? '');
    return adapter?.batches && { ...adapter, batches: adapter.batches };
  }

  /** Claims the first attempt of a call for a provider batch. */
  async claim(owner: string, { requestId, targets: [target] }: ModelCall, key: ChosenKey['key']): Promise<boolean> {
    if (!target) return false;
    const { provider, model, maxCostNanos } = target;
    const attempt = { requestId, targetIndex: 0, n: 1 };
    const claim = { ...attempt, provider, model, maxCostNanos, owner, providerKeyId: key?.id ?? null };
    return (await this.deps.attempts.claim(claim)) === 'claimed';
  }

  /**
   * Submits what was gathered. Throws when that has to be tried again; `refused` when it has no use.
   */
  async submit(
    batch: StoredProviderBatch,
    lines: readonly BatchLine[],
    signal: AbortSignal,
  ): Promise<'submitted' | 'refused'> {
    const { providerBatches, logger } = this.deps;
    const { batches, call } = await this.reach(batch, signal);
    await providerBatches.set(batch.id, 'submitting');
    try {
      const { id } = await batches.submit(lines, { ...call, key: batch.id });
      await providerBatches.set(batch.id, 'running', id);
      return 'submitted';
    } catch (error) {
      if (!(error instanceof ProviderError) || error.maybeBilled) throw error;
      logger.warn(
        { err: error, batch: batch.batchId },
        `${batch.provider} did not take a batch; its lines go one by one`,
      );
      await this.release(batch, 'refused');
      return 'refused';
    }
  }

  /** What became of a submit whose answer was lost. */
  async recover(batch: StoredProviderBatch, signal: AbortSignal): Promise<void> {
    const { providerBatches, attempts } = this.deps;
    const { batches, call } = await this.reach(batch, signal);
    if (!batches.find) {
      for (const requestId of await providerBatches.claimed(batch)) {
        await attempts.markUnknown({ requestId, targetIndex: 0, n: 1 });
      }
      return providerBatches.end(batch.id, 'ended');
    }
    for (const waitMs of LOOK_AGAIN_MS) {
      const found = await batches.find(batch.id, call);
      if (found) return providerBatches.set(batch.id, 'running', found.id);
      await sleep(waitMs, undefined, { signal });
    }
    await this.release(batch, 'ended');
  }

  /** Asks how a batch is getting on. `over`: the outcome of every line of it is in the journal. */
  async follow(
    batch: StoredProviderBatch,
    cancel: boolean,
    signal: AbortSignal,
  ): Promise<'running' | 'refused' | 'over'> {
    const { providerBatches, attempts } = this.deps;
    const id = batch.providerBatchId ?? '';
    const { batches, call } = await this.reach(batch, signal);
    if (cancel) await batches.cancel(id, call);
    const { state, error } = await batches.status(id, call);
    if (state === 'running') return 'running';
    if (state === 'failed') {
      this.deps.logger.warn(
        { error, batch: batch.batchId },
        `${batch.provider} refused a batch; its lines go one by one`,
      );
      await this.release(batch, 'refused');
      return 'refused';
    }
    const results = { ...call, signal: AbortSignal.any([signal, AbortSignal.timeout(RESULTS_TIMEOUT_MS)]) };
    for await (const end of batches.results(id, results)) await this.journal(batch, end);
    // Lines without a result did not come to run.
    const latencyMs = Date.now() - batch.createdAt.getTime();
    for (const requestId of await providerBatches.claimed(batch)) {
      const { info } = expiredLine(batch.provider);
      const outcome = { state: 'failed', latencyMs, usage: null, costNanos: 0, error: info } as const;
      await attempts.finish({ requestId, targetIndex: 0, n: 1 }, outcome);
    }
    return 'over';
  }

  private async journal(batch: StoredProviderBatch, end: BatchLineEnd): Promise<void> {
    const key = { requestId: end.id, targetIndex: 0, n: 1 };
    const request = await this.deps.bodies.ofRequest<ModelRequest>(end.id);
    const latencyMs = Date.now() - batch.createdAt.getTime();
    await journalLineEnd(this.deps, { key, request, price: batch.price, latencyMs }, end);
  }

  /** Nobody has it: its lines are free for other calls. */
  private async release(batch: StoredProviderBatch, state: 'ended' | 'refused'): Promise<void> {
    await this.deps.providerBatches.unclaim(batch);
    await this.deps.providerBatches.end(batch.id, state);
  }

  private async reach(
    batch: StoredProviderBatch,
    signal: AbortSignal,
  ): Promise<{ readonly batches: ProviderBatches; readonly call: BatchCall }> {
    const adapter = this.deps.providers.get(batch.provider);
    if (!adapter?.batches) {
      throw new HoldfastError('gateway_unavailable', `Provider '${batch.provider}' has no batch API any more.`);
    }
    const chosen = await this.deps.credentials.again(adapter, batch.providerKeyId);
    if ('refused' in chosen) throw chosen.refused;
    const call = {
      signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]),
      credential: chosen.credential,
    };
    return { batches: adapter.batches, call };
  }
}
