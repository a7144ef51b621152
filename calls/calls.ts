import { type AttemptKey, keyOf } from '../domain/attempt.ts';
import type { ModelRequest } from '../domain/chat.ts';
import { HoldfastError, MAX_COST_PARAM } from '../domain/errors.ts';
import type { ModelCallResult, TargetCall } from '../domain/model-call.ts';
import type { LimitReport } from '../domain/provider-limits.ts';
import { decideRetry, refusesKey, worthWaiting } from '../domain/retry.ts';
import type { ProviderAdapter } from '../providers/adapter.ts';
import type { Attempt } from '../storage/postgres/attempts.ts';
import type { Reservations } from '../storage/postgres/reservations.ts';
import { Answers, type AnswersDeps } from './answers.ts';
import { CallFailed } from './call-failed.ts';
import type { ChosenKey, Credentials, NoKey } from './credentials.ts';
import { abortReason, pollUntil, retryWhileUnreachable, settled } from './patience.ts';
import type { ProviderBuckets } from './provider-buckets.ts';
import { callProvider } from './provider-call.ts';

export interface CallsDeps extends AnswersDeps {
  readonly reservations: Reservations;
  readonly credentials: Credentials;
  readonly buckets: ProviderBuckets;
  /** Identifies this process in claims. */
  readonly processId: string;
}

/** Calls that were lost with their process do not count as the provider's failures, but their number is bounded. */
const MAX_LOST_CALLS = 5;

/**
 * Provider calls as claimed, journalled, single-flight attempts. However often and wherever a call is executed, each
 * attempt is made by one process, its outcome is in Postgres before anybody sees the end of the answer, and a journalled
 * answer is never paid for twice.
 */
export class Calls {
  private readonly inFlight = new Map<string, { readonly step: Promise<unknown>; readonly abort: AbortController }>();
  private readonly deps: CallsDeps;
  private readonly answers: Answers;

  constructor(deps: CallsDeps) {
    this.deps = deps;
    this.answers = new Answers(deps);
  }

  /** Provider calls this process is making right now. */
  get active(): number {
    return this.inFlight.size;
  }

  /**
   * The answer of one target. Throws `CallFailed`, also when `signal` aborts; the attempt is journalled by then. A
   * `HoldfastError` as the signal's reason is what the ledger says about the abort.
   */
  async run(call: TargetCall, signal: AbortSignal): Promise<ModelCallResult> {
    const key = keyOf(call);
    // Nearly always this is the first execution, so the claim is tried before the journal is read.
    let known: readonly Attempt[] | undefined = [];
    for (;;) {
      const running = this.inFlight.get(key);
      if (running) {
        await settled(running.step, signal);
        known = undefined;
        continue;
      }
      const abort = new AbortController();
      const step = this.step(call, known, AbortSignal.any([signal, abort.signal]));
      this.inFlight.set(key, { step, abort });
      try {
        const result = await step;
        if (result) return result;
      } finally {
        this.inFlight.delete(key);
      }
      known = undefined;
    }
  }

  /** Stops the calls of a cancelled request at once, if this process makes them. */
  abort(requestId: string): void {
    for (const [key, { abort }] of this.inFlight) if (key.startsWith(`${requestId}:`)) abort.abort();
  }

  /** Does what the journal says is next; undefined when it has to be read again. */
  private async step(
    call: TargetCall,
    known: readonly Attempt[] | undefined,
    signal: AbortSignal,
  ): Promise<ModelCallResult | undefined> {
    const made = known ?? (await this.deps.attempts.ofTarget(call));
    const last = made.at(-1);
    if (last?.state === 'succeeded') return this.answers.replay(call, last);
    if (last?.state === 'claimed') {
      await this.awaitOutcome(last, signal);
      return undefined;
    }
    // All are had before the claim, so that a claim always means a call.
    const adapter = this.adapter(call);
    const chosen = await this.deps.credentials.choose(adapter, call.keyScope, made.length > 0);
    this.mayCallAgain(call, made, chosen);
    if ('refused' in chosen) {
      // The journal may hold an answer that needs no key.
      if (known) return undefined;
      throw this.withoutKey(call, made, chosen);
    }
    const n = (last?.n ?? 0) + 1;
    await this.deps.streams.refuseBroken(call, n, last?.error);
    if (n > 1 || call.targetIndex > 0) await this.cover(call);
    const request = await this.request(call);
    if (signal.aborted) throw new CallFailed(abortReason(signal));
    const waitMs = await this.deps.buckets.take(call, chosen.key);
    // What an earlier execution did has not been read yet: an answer that is there waits for nothing.
    if (waitMs > 0 && known) return undefined;
    if (waitMs > 0) throw bucketFull(call, waitMs);

    await this.deps.streams.started(call);
    const key: AttemptKey = { requestId: call.requestId, targetIndex: call.targetIndex, n };
    const { provider, model, maxCostNanos } = call.target;
    const providerKeyId = chosen.key?.id ?? null;
    const claim = { ...key, provider, model, maxCostNanos, owner: this.deps.processId, providerKeyId };
    const claimed = await this.deps.attempts.claim(claim);
    if (claimed === 'taken') return undefined;
    if (claimed === 'closed') {
      throw new CallFailed(new HoldfastError('gateway_cancelled', 'The request is settled already.'));
    }

    const writer = this.deps.streams.writer(call, n);
    const started = performance.now();
    const { target, deadlineAt } = call;
    const { credential } = chosen;
    const onLimits = (report: LimitReport) => this.deps.buckets.learn(call, chosen.key, report);
    const options = { adapter, request, target, attempt: n, credential, deadlineAt, signal, writer, onLimits };
    const end = await callProvider(options);
    if (end.usage) this.deps.buckets.correct(call, chosen.key, end.usage);
    const latencyMs = performance.now() - started;
    if (end.state === 'succeeded') return this.answers.deliver(call, key, end, latencyMs);
    const { error, ...rest } = end;
    const outcome = { ...rest, latencyMs, error: error.info };
    await retryWhileUnreachable(() => this.deps.attempts.finish(key, outcome), this.deps.logger);
    if (signal.aborted) throw new CallFailed(error);
    const hasOtherKey = await this.deps.credentials.replace(adapter, call.keyScope, chosen, error);
    // What is still on its way into the log comes before the word that it broke off.
    await writer?.flush();
    await this.fail(call, key, error, made, { shown: writer?.shown ?? 0, hasOtherKey });
    return undefined;
  }

  private withoutKey(call: TargetCall, made: readonly Attempt[], { refused }: NoKey): CallFailed {
    const decision = decideRetry(refused, { ...this.retryContext(call, made), hasOtherKey: false });
    return new CallFailed(refused, decision.retry ? decision.delayMs : undefined);
  }

  /** Throws what comes next, unless it is another call right now: Temporal's timers would make the caller wait a second. */
  private async fail(
    call: TargetCall,
    { n }: AttemptKey,
    error: HoldfastError,
    made: readonly Attempt[],
    { shown, hasOtherKey }: { readonly shown: number; readonly hasOtherKey: boolean },
  ): Promise<void> {
    const { provider, model, maxAttempts } = call.target;
    this.deps.logger.warn(
      { run: call.requestId, provider, model, attempt: n, error: error.code },
      `Call ${n} of at most ${maxAttempts} to ${provider}/${model} failed: ${error.message}`,
    );
    if (shown > 0) await this.deps.streams.breakOff(call, n, error.info);
    const decision = decideRetry(error, { ...this.retryContext(call, [...made, { error }]), hasOtherKey });
    if (hasOtherKey && decision.retry) return;
    throw new CallFailed(error, decision.retry ? decision.delayMs : undefined);
  }

  /** Ends the target when its last call must not be repeated or its calls are used up. */
  private mayCallAgain(call: TargetCall, made: readonly Attempt[], chosen: ChosenKey | NoKey): void {
    if (call.deadlineAt <= Date.now()) {
      throw new CallFailed(
        new HoldfastError('gateway_deadline_exceeded', 'The request did not finish before its deadline.'),
      );
    }
    const last = made.at(-1);
    if (!last?.error) return;
    const context = this.retryContext(call, made);
    const lost = made.filter((attempt) => !isFailure(attempt)).length;
    const hasOtherKey = !('refused' in chosen) && (chosen.key !== null || last.providerKeyId !== null);
    const again = isFailure(last)
      ? decideRetry(last.error, { ...context, hasOtherKey }).retry
      : lost <= MAX_LOST_CALLS && context.failures < call.target.maxAttempts;
    if (!again) throw new CallFailed(HoldfastError.from(last.error));
  }

  private retryContext(call: TargetCall, made: readonly Pick<Attempt, 'error'>[]) {
    const failures = made.filter(isFailure);
    const refusedKeys = failures.filter(({ error }) => error && refusesKey(error.code)).length;
    return {
      failures: failures.length - refusedKeys,
      refusedKeys,
      maxAttempts: call.target.maxAttempts,
      retryDelayMs: call.retryDelayMs,
      hasNextTarget: call.hasNextTarget,
      remainingMs: call.deadlineAt - Date.now(),
    };
  }

  private async cover(call: TargetCall): Promise<void> {
    if (call.maxCostNanos !== undefined) {
      const { costNanos } = await this.deps.attempts.totals(call.requestId);
      if (costNanos + call.target.maxCostNanos > call.maxCostNanos) throw new CallFailed(overCap());
    }
    const covered = await this.deps.reservations.cover(call.requestId, call.target.maxCostNanos);
    if (covered.reserved) return;
    const { scope, period } = covered.exceeded;
    throw new CallFailed(
      new HoldfastError(
        'policy_budget_exceeded',
        `The ${period} budget of the ${scope} does not cover a further call.`,
      ),
    );
  }

  /** Waits while another process is at it; once its lease ended the attempt is `unknown` and the next may be made. */
  private async awaitOutcome(attempt: Attempt, signal: AbortSignal): Promise<void> {
    const abandoned = await pollUntil(signal, async () => {
      const current = (await this.deps.attempts.ofTarget(attempt)).find(({ n }) => n === attempt.n);
      if (current?.state !== 'claimed') return 'ended';
      const mine = current.owner === this.deps.processId;
      return mine || !current.ownerAlive ? 'abandoned' : undefined;
    });
    if (abandoned === 'abandoned') {
      this.deps.logger.warn(
        { run: attempt.requestId, attempt: attempt.n },
        'A provider call was lost with its process',
      );
      await this.deps.attempts.markUnknown(attempt);
    }
  }

  private async request(call: TargetCall): Promise<ModelRequest> {
    const request = await this.deps.bodies.get<ModelRequest>(call.bodyRef);
    if (!request) throw new CallFailed(new HoldfastError('gateway_internal', 'The request’s body is missing.'));
    return request;
  }

  private adapter(call: TargetCall): ProviderAdapter {
    const adapter = this.deps.providers.get(call.target.provider);
    if (adapter) return adapter;
    // The config changed between accepting the request and calling; another target may still serve it.
    throw new CallFailed(
      new HoldfastError('provider_model_not_found', `Provider '${call.target.provider}' is no longer configured.`),
    );
  }
}

const overCap = () =>
  new HoldfastError('policy_budget_exceeded', 'What is left of the run’s max_cost_usd does not cover a further call.', {
    param: MAX_COST_PARAM,
  });

/** A full bucket may have room earlier than it said: other calls give back what they did not use. */
const MAX_BUCKET_STEP_MS = 5_000;

/** No call was made, so there is no attempt and nothing counts against the target's calls. */
function bucketFull({ target, hasNextTarget, deadlineAt }: TargetCall, waitMs: number): CallFailed {
  const message = `${target.provider}: the provider’s rate limit for ${target.model} is used up`;
  const error = new HoldfastError('provider_rate_limited', message, { retryAfterMs: waitMs });
  const waits = worthWaiting(waitMs, { hasNextTarget, remainingMs: deadlineAt - Date.now() });
  return new CallFailed(error, waits ? Math.min(waitMs, MAX_BUCKET_STEP_MS) : undefined);
}

/** A call the provider failed, as opposed to one that was lost with its process. */
const isFailure = ({ error }: Pick<Attempt, 'error'>): boolean =>
  error !== null && error.code !== 'gateway_unavailable';
