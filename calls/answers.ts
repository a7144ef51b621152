import type { Logger } from 'pino';
import type { AttemptKey } from '../domain/attempt.ts';
import type { CustomToolCall, ModelResult, ToolCall } from '../domain/chat.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { ModelCallResult, TargetCall } from '../domain/model-call.ts';
import type { NanoDollars } from '../domain/money.ts';
import { toMetadata } from '../domain/stream-item.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { Attempt, Attempts } from '../storage/postgres/attempts.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import type { Sql } from '../storage/postgres/database.ts';
import { finishAndSettle, settle } from '../storage/postgres/settlement.ts';
import { CallFailed } from './call-failed.ts';
import type { CallStreams } from './call-streams.ts';
import { retryWhileUnreachable } from './patience.ts';
import type { CallEnd } from './provider-call.ts';
import type { Quota } from './quota.ts';

export interface AnswersDeps {
  readonly db: Sql;
  readonly quota: Quota;
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
    const { db, attempts, bodies, logger } = this.deps;
    const { admission } = call;
    const { usage, costNanos, cacheSavingsNanos } = end;
    const result: ModelResult = { ...end.answer, usage };
    const response = bodies.seal(result);
    const outcome = { state: 'succeeded', latencyMs, usage, costNanos, cacheSavingsNanos, response } as const;
    const finish = () => (admission ? finishAndSettle(db, key, outcome) : attempts.finish(key, outcome));
    const finished = await retryWhileUnreachable(finish, logger);
    if (!finished.accepted) {
      // What came too late is in the journal all the same.
      if (admission) await retryWhileUnreachable(() => attempts.finish(key, outcome), logger);
      throw new CallFailed(claimLost(), 0);
    }
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
    return this.toCallResult(call, result, response.ref, { ...finished, alerts: finished.alerts ?? [] });
  }

  /** Hands out an answer that is in the journal already: its activity's completion was lost. */
  async replay(call: TargetCall, { n, responseRef, latencyMs }: Attempt): Promise<ModelCallResult> {
    const result = await this.deps.bodies.get<ModelResult>(responseRef ?? '');
    if (!result) throw new CallFailed(new HoldfastError('gateway_internal', 'The stored answer is missing.'));
    const totals = await this.deps.attempts.totals(call.requestId);
    await this.publish(call, n, result, { latencyMs: latencyMs ?? 0, ...totals });
    const ending = { requestId: call.requestId, state: 'completed' } as const;
    const alerts = call.admission ? await settle(this.deps.db, ending) : [];
    return this.toCallResult(call, result, responseRef ?? '', { ...totals, alerts });
  }

  private async toCallResult(
    { requestId, target, admission, step }: TargetCall,
    { choices, usage }: ModelResult,
    responseRef: string,
    settlement: { readonly alerts: readonly string[]; readonly costNanos: NanoDollars },
  ): Promise<ModelCallResult> {
    const { provider, model } = target;
    const finishReasons = choices.map((choice) => choice.native_finish_reason);
    const toolCalls = step === undefined ? [] : toolCallsOf(choices);
    const result = {
      provider,
      model,
      finishReasons,
      usage,
      responseRef,
      ...(toolCalls.length > 0 && { toolCalls }),
    };
    if (!admission) return result;
    const { limits, estimatedTokens } = admission;
    const tokenDifference = usage.inputTokens + usage.outputTokens - estimatedTokens;
    const alerts = await this.deps.quota.settled({ requestId, limits, tokenDifference }, settlement.alerts);
    const { costNanos } = settlement;
    return { ...result, settled: { alerts, ...(step !== undefined && { costNanos }) } };
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

/** Names are enough for a history; arguments are in the answer. Ids are places, from 1: providers' own may repeat. */
const toolCallsOf = ([choice]: ModelResult['choices']) =>
  (choice?.message.tool_calls ?? []).map((call, index) => ({
    id: String(index + 1),
    name: call.type === 'custom' ? (call as CustomToolCall).custom.name : (call as ToolCall).function.name,
  }));

const claimLost = () => new HoldfastError('gateway_unavailable', 'The claim of the call was lost to another process.');
