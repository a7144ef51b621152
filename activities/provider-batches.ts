import { Context } from '@temporalio/activity';
import type { Logger } from 'pino';
import type { ChosenKey, Credentials } from '../calls/credentials.ts';
import type { ProviderBatchCalls } from '../calls/provider-batches.ts';
import { lineRequestId } from '../domain/batch.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { CallTarget } from '../domain/model-call.ts';
import type { BatchLine, ProviderBatches } from '../providers/batches.ts';
import type { Batch, Batches } from '../storage/postgres/batches.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { ProviderBatchStore, StoredProviderBatch } from '../storage/postgres/provider-batches.ts';
import type { Reservations } from '../storage/postgres/reservations.ts';
import { settle } from '../storage/postgres/settlement.ts';
import { createPrepare, type PrepareDeps, type PreparedLineCall } from './prepare-lines.ts';

export interface ProviderBatchDeps extends PrepareDeps {
  readonly db: Sql;
  readonly batches: Batches;
  readonly reservations: Reservations;
  readonly credentials: Credentials;
  readonly providerBatches: ProviderBatchStore;
  readonly providerBatchCalls: ProviderBatchCalls;
  /** `background.native_batches` */
  readonly nativeBatches: boolean;
  readonly logger: Logger;
}

export interface FollowedBatches {
  /** Provider batches that have no end yet. */
  readonly running: number;
  /** Budget alerts to deliver. */
  readonly alerts: readonly string[];
}

/** Lines prepared at once. */
const CHUNK = 100;
/** Lines ended by one statement. */
const ENDS = 200;
const HEARTBEAT_MS = 5_000;
/** What a batch's claims outlive its deadline by: a provider may take its time to end what was cancelled. */
const LEASE_GRACE_MS = 3_600_000;

/** Lines that go to the same model by the same key, on their way into one provider batch. */
interface Group {
  readonly id: string;
  readonly target: CallTarget;
  readonly api: ProviderBatches;
  readonly key: ChosenKey['key'];
  readonly lines: BatchLine[];
  bytes: number;
}

/** The part of a batch that goes through the providers' own batch APIs. */
export function createProviderBatchActivities(deps: ProviderBatchDeps) {
  const { db, batches, batchLines, reservations, credentials, providers, providerBatches, providerBatchCalls } = deps;
  const prepare = createPrepare(deps);

  async function openGroup(batch: Batch, { call }: PreparedLineCall, refused: ReadonlySet<string>) {
    const adapter = providerBatchCalls.adapterFor(call);
    const [target] = call.targets;
    if (!adapter || !target || refused.has(`${target.provider}/${target.model}`)) return undefined;
    const chosen = await credentials.choose(adapter, call.keyScope);
    if ('refused' in chosen) return undefined;
    const { provider, model, price } = target;
    const providerKeyId = chosen.key?.id ?? null;
    const leaseUntil = new Date(batch.deadlineAt.getTime() + LEASE_GRACE_MS);
    const id = await providerBatches.open({ batchId: batch.id, provider, model, price, providerKeyId }, leaseUntil);
    return { id, target, api: adapter.batches, key: chosen.key, lines: [], bytes: 0 };
  }

  /** `full`: it and the lines behind it have to wait for another provider batch, or for money. */
  async function join(
    batch: Batch,
    group: Group,
    { call, row }: PreparedLineCall,
  ): Promise<'joined' | 'left' | 'full'> {
    const [target] = call.targets;
    if (target?.provider !== group.target.provider || target.model !== group.target.model) return 'left';
    const request = await deps.bodies.get<BatchLine['request']>(row.body.ref);
    if (!request) return 'left';
    const { model, outputLimit, maxOutputTokens, maxCostNanos } = target;
    const line: BatchLine = { id: call.requestId, request, model, outputLimit, maxOutputTokens };
    const bytes = bytesOf(group.api, line);
    if (bytes === undefined) return 'left';
    if (group.lines.length >= group.api.maxLines || group.bytes + bytes > group.api.maxBytes) return 'full';
    if (batch.maxCostNanos !== null) {
      if ((await providerBatches.committed(batch.id)) + maxCostNanos > batch.maxCostNanos) return 'full';
    }
    const { requestId, admission } = call;
    const { priceVersion } = admission;
    const reserved = await reservations.reserve({ requestId, nanos: maxCostNanos, priceVersion });
    if (!reserved.reserved) return 'full';
    if (!(await providerBatchCalls.claim(group.id, call, group.key))) return 'left';
    group.lines.push(line);
    group.bytes += bytes;
    return 'joined';
  }

  async function gather(batch: Batch, refused: ReadonlySet<string>): Promise<Group | undefined> {
    let group: Group | undefined;
    for (let after = 0; ; ) {
      const lines = await batchLines.untried(batch.id, { after, limit: CHUNK });
      for (const line of await prepare(batch, lines)) {
        group ??= await openGroup(batch, line, refused);
        if (group && (await join(batch, group, line)) === 'full') return group;
      }
      if (lines.length < CHUNK) return group;
      after = lines.at(-1)?.n ?? after;
    }
  }

  /** What an execution that died left behind. */
  async function tidy(known: readonly StoredProviderBatch[], signal: AbortSignal): Promise<void> {
    for (const batch of known) {
      if (batch.state === 'submitting') await providerBatchCalls.recover(batch, signal);
      if (batch.state !== 'gathering') continue;
      await providerBatches.unclaim(batch);
      await providerBatches.end(batch.id, 'ended');
    }
  }

  /** Whether it goes on. */
  async function followOne(
    batch: StoredProviderBatch,
    cancel: boolean,
    signal: AbortSignal,
    alerts: string[],
  ): Promise<boolean> {
    const state = await providerBatchCalls.follow(batch, cancel, signal);
    if (state !== 'over') return state === 'running';
    // Lines without an answer are called one by one, or closed with their batch.
    for (;;) {
      const answered = await providerBatches.answered(batch, ENDS);
      for (const n of answered) {
        const requestId = lineRequestId(batch.batchId, n);
        alerts.push(...(await settle(db, { requestId, state: 'completed' })));
      }
      const ends = answered.map((n) => ({ n, state: 'completed' as const }));
      if (ends.length > 0) await batchLines.finish(batch.batchId, ends);
      if (ends.length < ENDS) break;
    }
    await providerBatches.end(batch.id, 'ended');
    return false;
  }

  return {
    /** Gathers lines for one model and submits them. Returns whether there were any. */
    async submitProviderBatch(batchId: string): Promise<boolean> {
      if (!deps.nativeBatches || ![...providers.values()].some((adapter) => adapter.batches)) return false;
      return beating(async (signal) => {
        const batch = await batches.find(batchId, undefined);
        if (!batch) throw new HoldfastError('gateway_internal', `Batch '${batchId}' is not there.`);
        if (batch.cancellingAt) return false;
        await tidy(await providerBatches.of(batchId), signal);
        const known = await providerBatches.of(batchId);
        const refused = new Set(
          known.filter(({ state }) => state === 'refused').map(({ provider, model }) => `${provider}/${model}`),
        );
        const group = await gather(batch, refused);
        const gathered = group && (await providerBatches.of(batchId)).find(({ id }) => id === group.id);
        if (!group || !gathered) return false;
        if (group.lines.length === 0) {
          await providerBatches.end(group.id, 'ended');
          return false;
        }
        await providerBatchCalls.submit(gathered, group.lines, signal);
        return true;
      });
    },

    /** Looks after the provider batches of a batch, and takes over the answers of those that have ended. */
    async followProviderBatches(batchId: string, cancel: boolean): Promise<FollowedBatches> {
      return beating(async (signal) => {
        const alerts: string[] = [];
        let running = 0;
        for (const one of await providerBatches.of(batchId)) {
          if (one.state !== 'running') continue;
          try {
            if (await followOne(one, cancel, signal, alerts)) running += 1;
          } catch (error) {
            if (signal.aborted) throw error;
            deps.logger.warn({ err: error, batch: batchId }, `A batch of ${one.provider} cannot be looked after`);
            running += 1;
          }
        }
        return { running, alerts };
      });
    },
  };
}

/** @returns undefined for a line that the API cannot take. */
function bytesOf(api: ProviderBatches, line: BatchLine): number | undefined {
  try {
    return api.bytesOf(line);
  } catch {
    return undefined;
  }
}

async function beating<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const context = Context.current();
  const timer = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work(context.cancellationSignal);
  } finally {
    clearInterval(timer);
  }
}
