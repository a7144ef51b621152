import type { Logger } from 'pino';
import type { BatchedCall, SubmittedBatch } from '../domain/batched-call.ts';
import type { ModelRequest } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { ProviderAdapter } from '../providers/adapter.ts';
import type { BatchCall, BatchLine, BatchLineEnd, BatchStatus, ProviderBatches } from '../providers/batches.ts';
import { ProviderError } from '../providers/errors.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { Attempts } from '../storage/postgres/attempts.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import type { Processes } from '../storage/postgres/processes.ts';
import { journalLineEnd } from './batch-journal.ts';
import type { Credentials } from './credentials.ts';

export interface BatchedCallsDeps {
  readonly attempts: Attempts;
  readonly bodies: Bodies;
  readonly processes: Processes;
  readonly providers: ProviderRegistry;
  readonly credentials: Credentials;
  readonly logger: Logger;
}

/** Seconds that the claims of a batch are good for: providers end batches within a day. */
const WINDOW_SECONDS = 26 * 60 * 60;

const ownerOf = (key: string): string => `batch:${key}`;

/** The first call of a request, at its first target. */
const attemptOf = ({ requestId }: Pick<BatchedCall, 'requestId'>) => ({ requestId, targetIndex: 0, n: 1 });

/**
 * Calls that go to their provider together, through its batch API. Each is an attempt like any other: claimed before,
 * journalled after, at the batch's price. What does not come back answered is left to be called by itself.
 */
export class BatchedCalls {
  private readonly deps: BatchedCallsDeps;

  constructor(deps: BatchedCallsDeps) {
    this.deps = deps;
  }

  /**
   * Submits calls to one model of one provider. undefined when they are to be made one by one, because the provider takes
   * no batches, or not this one. Repeated under the same key after a crash, it finds what it submitted; where the provider
   * cannot tell, the attempts become `unknown`. Throws a `ProviderError` when it has to be repeated.
   */
  async submit(key: string, calls: readonly BatchedCall[], signal: AbortSignal): Promise<SubmittedBatch | undefined> {
    const [first] = calls;
    const adapter = this.deps.providers.get(first?.target.provider ?? '');
    if (!first || !adapter?.batches) return undefined;
    const chosen = await this.deps.credentials.choose(adapter, first.keyScope);
    if ('refused' in chosen) return undefined;
    const providerKeyId = chosen.key?.id ?? null;
    const owner = ownerOf(key);
    await this.deps.processes.hold(owner, WINDOW_SECONDS);
    const { lines, resumed } = await this.claim(adapter.batches, calls, owner, providerKeyId);
    if (lines.length === 0) return undefined;
    const call = { signal, credential: chosen.credential };
    const id = await this.submitLines(adapter.batches, key, lines, resumed, call, owner);
    return id === undefined ? undefined : { provider: adapter.name, id, owner, providerKeyId, submittedAt: Date.now() };
  }

  async status(batch: SubmittedBatch, signal: AbortSignal): Promise<BatchStatus> {
    const { batches, call } = await this.open(batch, signal);
    return batches.status(batch.id, call);
  }

  /** Journals how the calls of a batch ended; those without a result were not made. Can be repeated. */
  async collect(
    batch: SubmittedBatch,
    calls: readonly BatchedCall[],
    state: BatchStatus['state'],
    signal: AbortSignal,
  ): Promise<void> {
    const open = new Map(calls.map((call) => [call.requestId, call]));
    if (state !== 'failed') {
      const { batches, call } = await this.open(batch, signal);
      for await (const end of batches.results(batch.id, call)) {
        const made = open.get(end.id);
        if (!made) continue;
        open.delete(end.id);
        await this.journal(batch, made, end);
      }
    }
    for (const call of open.values()) await this.deps.attempts.release(attemptOf(call), batch.owner);
    await this.deps.processes.remove(batch.owner);
  }

  /** Gives up on a batch that nobody can ask about any more: its calls may have been made. */
  async abandon(key: string, calls: readonly BatchedCall[]): Promise<void> {
    for (const call of calls)
      if (await this.isMine(call, ownerOf(key))) await this.deps.attempts.markUnknown(attemptOf(call));
    await this.deps.processes.remove(ownerOf(key));
  }

  private async claim(
    batches: ProviderBatches,
    calls: readonly BatchedCall[],
    owner: string,
    providerKeyId: string | null,
  ): Promise<{ readonly lines: readonly BatchLine[]; readonly resumed: boolean }> {
    const lines: BatchLine[] = [];
    let resumed = false;
    for (const call of calls) {
      const line = await this.lineOf(batches, call);
      if (!line) continue;
      const { provider, model, maxCostNanos } = call.target;
      const claim = { ...attemptOf(call), provider, model, maxCostNanos, owner, providerKeyId };
      const claimed = await this.deps.attempts.claim(claim);
      const mine = claimed === 'taken' && (await this.isMine(call, owner));
      resumed ||= mine;
      if (claimed === 'claimed' || mine) lines.push(line);
    }
    return { lines, resumed };
  }

  /** undefined for a request that the provider's API cannot be told; the call by itself says why. */
  private async lineOf(batches: ProviderBatches, call: BatchedCall): Promise<BatchLine | undefined> {
    const request = await this.deps.bodies.get<ModelRequest>(call.bodyRef);
    if (!request) return undefined;
    const { model, outputLimit, maxOutputTokens } = call.target;
    const line = { id: call.requestId, request, model, outputLimit, maxOutputTokens };
    try {
      batches.bytesOf(line);
      return line;
    } catch (error) {
      if (error instanceof HoldfastError) return undefined;
      throw error;
    }
  }

  private async isMine(call: BatchedCall, owner: string): Promise<boolean> {
    const [first] = await this.deps.attempts.ofTarget(attemptOf(call));
    return first?.owner === owner && first.state === 'claimed';
  }

  private async submitLines(
    batches: ProviderBatches,
    key: string,
    lines: readonly BatchLine[],
    resumed: boolean,
    call: BatchCall,
    owner: string,
  ): Promise<string | undefined> {
    const found = resumed ? await batches.find?.(key, call) : undefined;
    if (found) return found.id;
    if (resumed && !batches.find) return this.giveUp(lines, 'unknown', owner);
    try {
      return (await batches.submit(lines, { key, ...call })).id;
    } catch (error) {
      const lost = error instanceof ProviderError && error.maybeBilled;
      if (lost && batches.find) throw error;
      this.deps.logger.warn(
        { err: error, batch: key },
        'A provider did not take a batch; its calls are made one by one',
      );
      return this.giveUp(lines, lost ? 'unknown' : 'released', owner);
    }
  }

  private async giveUp(lines: readonly BatchLine[], end: 'unknown' | 'released', owner: string): Promise<undefined> {
    for (const { id: requestId } of lines) {
      if (end === 'unknown') await this.deps.attempts.markUnknown(attemptOf({ requestId }));
      else await this.deps.attempts.release(attemptOf({ requestId }), owner);
    }
    await this.deps.processes.remove(owner);
  }

  private async journal(batch: SubmittedBatch, call: BatchedCall, end: BatchLineEnd): Promise<void> {
    const request = await this.deps.bodies.get<ModelRequest>(call.bodyRef);
    const latencyMs = Math.max(0, Date.now() - batch.submittedAt);
    await journalLineEnd(this.deps, { key: attemptOf(call), request, price: call.target.price, latencyMs }, end);
  }

  private async open(
    { provider, providerKeyId }: SubmittedBatch,
    signal: AbortSignal,
  ): Promise<{ readonly batches: ProviderBatches; readonly call: BatchCall }> {
    const adapter: ProviderAdapter | undefined = this.deps.providers.get(provider);
    if (!adapter?.batches) {
      throw new HoldfastError(
        'provider_model_not_found',
        `Provider '${provider}' is no longer configured for batches.`,
      );
    }
    const chosen = await this.deps.credentials.again(adapter, providerKeyId);
    if ('refused' in chosen) throw chosen.refused;
    return { batches: adapter.batches, call: { signal, credential: chosen.credential } };
  }
}
