import { LRUCache } from 'lru-cache';
import type { Logger } from 'pino';
import type { ProviderConfig } from '../config/gateway-schema.ts';
import type { TargetCall } from '../domain/model-call.ts';
import type { Usage } from '../domain/money.ts';
import type { LimitReport, ProviderLimits } from '../domain/provider-limits.ts';
import type { Buckets } from '../storage/counters/buckets.ts';

/** null for the key that the provider was configured with. */
type UsedKey = { readonly id: string } | null;

export interface ProviderBucketsDeps {
  readonly buckets: Buckets;
  /** What the config says a provider allows. */
  readonly limitsOf: (provider: string) => ProviderLimits;
  readonly logger: Logger;
}

/** Milliseconds a bucket without limits is left alone; what another process learns meanwhile is known after. */
const OFF_MS = 1_000;
const MAX_OFF = 1_000;

/**
 * Keeps calls within the providers' own limits, so that they wait or move on before they are refused. A courtesy: where
 * the buckets cannot be asked, calls are made, and the provider's 429 says no.
 */
export class ProviderBuckets {
  private readonly off = new LRUCache<string, true>({ max: MAX_OFF, ttl: OFF_MS });
  private readonly deps: ProviderBucketsDeps;

  constructor(deps: ProviderBucketsDeps) {
    this.deps = deps;
  }

  /** Takes what the call needs. Returns the milliseconds it has to wait instead, or 0. */
  async take(call: TargetCall, key: UsedKey): Promise<number> {
    const bucket = bucketOf(call, key);
    if (this.off.has(bucket)) return 0;
    const { tenant = '', estimatedTokens: tokens = 0 } = call;
    try {
      const limits = this.deps.limitsOf(call.target.provider);
      const taken = await this.deps.buckets.take(bucket, { tenant, tokens, limits });
      if (!taken.limited) this.off.set(bucket, true);
      return taken.waitMs;
    } catch (error) {
      this.warn(call, error);
      return 0;
    }
  }

  /** Takes the tokens a call really used. */
  correct(call: TargetCall, key: UsedKey, { inputTokens, outputTokens }: Usage): void {
    const { tenant = '', estimatedTokens = 0 } = call;
    const difference = inputTokens + outputTokens - estimatedTokens;
    const bucket = bucketOf(call, key);
    if (difference === 0 || this.off.has(bucket)) return;
    this.deps.buckets.correct(bucket, tenant, difference).catch((error: unknown) => this.warn(call, error));
  }

  learn(call: TargetCall, key: UsedKey, report: LimitReport): void {
    if (Object.keys(report).length === 0) return;
    const bucket = bucketOf(call, key);
    this.off.delete(bucket);
    this.deps.buckets.learn(bucket, report).catch((error: unknown) => this.warn(call, error));
  }

  private warn(call: TargetCall, error: unknown): void {
    this.deps.logger.warn({ err: error, run: call.requestId }, 'A provider’s limits cannot be checked');
  }
}

/** Providers count by account and model; two stored keys may be of two accounts. */
const bucketOf = ({ target: { provider, model } }: TargetCall, key: UsedKey): string =>
  key === null ? `${provider}/${model}` : `${provider}/${model}/${key.id}`;

/** The limits of the config, by provider. */
export const limitsOfProviders =
  (providers: ReadonlyMap<string, ProviderConfig>) =>
  (name: string): ProviderLimits => {
    const { requests_per_minute, tokens_per_minute } = providers.get(name)?.limits ?? {};
    return {
      ...(requests_per_minute !== undefined && { requests: requests_per_minute }),
      ...(tokens_per_minute !== undefined && { tokens: tokens_per_minute }),
    };
  };
