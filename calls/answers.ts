import type { Logger } from 'pino';
import type { AttemptKey } from '../domain/attempt.ts';
import type { ModelResult } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { ModelCallResult, TargetCall } from '../domain/model-call.ts';
import type { NanoDollars } from '../domain/money.ts';
import { toMetadata } from '../domain/stream-item.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { Attempt, Attempts } from '../storage/postgres/attempts.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import { CallFailed } from './call-failed.ts';
import type { CallStreams } from './call-streams.ts';
import { retryWhileUnreachable } from './patience.ts';
import type { CallEnd } from './provider-call.ts';

export interface AnswersDeps {
  readonly attempts: Attempts;
  readonly bodies: Bodies;
  readonly providers: ProviderRegistry;
  readonly streams: CallStreams;
  readonly logger: Logger;
}

/** Answers on their way out: into the journal first, to the caller second. */
export class Answers {
  private readonly deps: AnswersDeps;

  constructor(deps: AnswersDeps) {
    this.deps = deps;
  }

  /** Journals an answer and hands it out. Throws `CallFailed` when the claim was lost to another process meanwhile. */
  async deliver(
    call: TargetCall,
    key: AttemptKey,
    end: Extract<CallEnd, { state: 'succeeded' }>,
    latencyMs: number,
  ): Promise<ModelCallResult> {
    const { attempts, bodies, logger } = this.deps;
    const { usage, costNanos, cacheSavingsNanos } = end;
    const result: ModelResult = { ...end.answer, usage };
    const response = bodies.seal(result);
    const outcome = { state: 'succeeded', latencyMs, usage, costNanos, cacheSavingsNanos, response } as const;
    const finished = await retryWhileUnreachable(() => attempts.finish(key, outcome), logger);
    if (!finished.accepted) throw new CallFailed(claimLost(), 0);
    await this.publish(call, key.n, result, { latencyMs, ...finished });
    logger.info(
      {
        run: call.requestId,
        provider: call.target.provider,
        model: call.target.model,
        tokens: usage.inputTokens + usage.outputTokens,
        latency_ms: Math.round(latencyMs),
        ...(call.fallbackFrom && { fallback_from: call.fallbackFrom }),
      },
      'Generated response',
    );
    return toCallResult(call, result, response.ref);
  }

  /** Hands out an answer that is in the journal already: its activity's completion was lost. */
  async replay(call: TargetCall, { n, responseRef, latencyMs }: Attempt): Promise<ModelCallResult> {
    const result = await this.deps.bodies.get<ModelResult>(responseRef ?? '');
    if (!result) throw new CallFailed(new HoldfastError('gateway_internal', 'The stored answer is missing.'));
    const totals = await this.deps.attempts.totals(call.requestId);
    await this.publish(call, n, result, { latencyMs: latencyMs ?? 0, ...totals });
    return toCallResult(call, result, responseRef ?? '');
  }

  private async publish(
    call: TargetCall,
    n: number,
    result: ModelResult,
    facts: { readonly latencyMs: number; readonly attempts: number; readonly costNanos: NanoDollars },
  ): Promise<void> {
    const { provider } = call.target;
    const region = this.deps.providers.get(provider)?.region;
    const metadata = toMetadata({ ...facts, provider, region, firstProvider: call.fallbackFrom ?? provider });
    await this.deps.streams.completed(call, n, { type: 'completed', result, metadata });
  }
}

const claimLost = () => new HoldfastError('gateway_unavailable', 'The claim of the call was lost to another process.');

const toCallResult = (call: TargetCall, result: ModelResult, responseRef: string): ModelCallResult => ({
  provider: call.target.provider,
  model: call.target.model,
  finishReasons: result.choices.map((choice) => choice.native_finish_reason),
  usage: result.usage,
  responseRef,
});
