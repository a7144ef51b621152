import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { type AttemptKey, keyOf, type TargetKey } from '../domain/attempt.ts';
import type { ModelRequest } from '../domain/chat.ts';
import { HoldfastError, MAX_COST_PARAM } from '../domain/errors.ts';
import type { AdmissionRequest, ModelCallResult, TargetCall } from '../domain/model-call.ts';
import type { LimitReport } from '../domain/provider-limits.ts';
import { decideRetry, worthWaiting } from '../domain/retry.ts';
import type { ProviderAdapter } from '../providers/adapter.ts';
import type { Admissions, FirstCall } from '../storage/postgres/admissions.ts';
import type { Attempt, Claim } from '../storage/postgres/attempts.ts';
import type { Reservations } from '../storage/postgres/reservations.ts';
import { Answers, type AnswersDeps } from './answers.ts';
import { CallFailed } from './call-failed.ts';
import type { ChosenKey, Credentials, NoKey } from './credentials.ts';
import { mayCallAgain, retryContext, withoutKey } from './next-call.ts';
import { abortReason, pollUntil, retryWhileUnreachable, settled } from './patience.ts';
import type { ProviderBuckets } from './provider-buckets.ts';
import { callProvider } from './provider-call.ts';
import { budgetExceeded } from './quota.ts';

export interface CallsDeps extends AnswersDeps {
  readonly admissions: Admissions;
  readonly reservations: Reservations;
  readonly credentials: Credentials;
  readonly buckets: ProviderBuckets;
  /** Identifies this process in claims. */
  readonly processId: string;
}

/** Calls made at the same time, beyond which none is made ahead of its activity. */
const MAX_AHEAD = 1_000;
/**
 * Milliseconds a workflow task waits for an answer: as long as it is sure to end before the server asks for a sign of
 * life, which costs as much as the activity that is saved. Cancels and other messages of the run wait with it.
 */
const AT_HAND_MS = 6_000;
/** Workflow tasks that wait so long at a time; others have to find room for theirs. */
export const MAX_AT_HAND = 500;
/** Milliseconds that those beyond wait. */
const BRIEFLY_AT_HAND_MS = 50;
/** Milliseconds that another process gets to journal the end of a call that was cancelled here. */
const LAST_WORD_MS = 3_000;
/** Milliseconds within which an activity joins the call that was made ahead of it; after that it reads the journal. */
const AHEAD_TTL_MS = 60_000;

/** A call under way in this process. */
interface Running {
  /** The answer; undefined when the journal has to be read again. */
  readonly step: Promise<ModelCallResult | undefined>;
  readonly abort: AbortController;
}

/** Everything a call needs before its attempt is claimed. */
interface Ready {
  readonly adapter: ProviderAdapter;
  readonly chosen: ChosenKey;
  readonly request: ModelRequest;
  readonly key: AttemptKey;
  readonly claim: Claim;
}

/** A first call that can be made before its activity is there. */
export interface CallAhead {
  /** What has to be committed before `begin`. */
  readonly first: FirstCall;
  /** Makes the call. `signal` aborts it, and so does the activity that joins it once that is cancelled. */
  begin(signal: AbortSignal | undefined): BegunCall;
  /** Gives back what it took of limits, when the request was not stored. */
  drop(): Promise<void>;
}

export interface BegunCall {
  /** Stops it. Resolves when its end is journalled. */
  abort(): Promise<void>;
}

/**
 * Provider calls as claimed, journalled, single-flight attempts. However often and wherever a call is executed, each
 * attempt is made by one process, its outcome is in Postgres before anybody sees the end of the answer, and a journalled
 * answer is never paid for twice.
 */
export class Calls {
  private readonly inFlight = new Map<string, Running>();
  /** Calls that no activity has joined yet, also when they are over. */
  private readonly ahead = new LRUCache<string, Running>({ max: MAX_AHEAD, ttl: AHEAD_TTL_MS });
  /** First calls that have room in all limits, but were not made ahead after all. */
  private readonly admitted = new LRUCache<string, true>({ max: MAX_AHEAD, ttl: AHEAD_TTL_MS });
  private awaitedAtHand = 0;
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
      const ahead = this.ahead.get(key);
      const running = ahead ?? this.inFlight.get(key);
      let result: ModelCallResult | undefined;
      if (ahead) {
        this.ahead.delete(key);
        result = await adopt(ahead, signal);
      } else if (running) {
        await settled(running.step, signal);
      } else {
        result = await this.execute(key, signal, (aborted) => this.step(call, known, aborted)).step;
      }
      if (result) return result;
      known = undefined;
    }
  }

  /** The answer of a call that was made ahead, if it comes within `AT_HAND_MS`; undefined leaves it to `run`. */
  async answerAtHand(target: TargetKey): Promise<ModelCallResult | undefined> {
    const key = keyOf(target);
    const ahead = this.ahead.get(key);
    if (!ahead) return undefined;
    const waitMs = this.awaitedAtHand < MAX_AT_HAND ? AT_HAND_MS : BRIEFLY_AT_HAND_MS;
    const patience = new AbortController();
    this.awaitedAtHand += 1;
    try {
      const tooLate = sleep(waitMs, undefined, { signal: patience.signal }).catch(() => undefined);
      const answer = await Promise.race([ahead.step.catch(() => undefined), tooLate]);
      if (answer) this.ahead.delete(key);
      return answer;
    } finally {
      this.awaitedAtHand -= 1;
      patience.abort();
    }
  }

  /**
   * The first call of a request, for who accepts it to make while its workflow is started. Undefined where the workflow
   * has to see to it first: there is no key, no room in a limit, or too much going on.
   */
  async prepareAhead(call: TargetCall): Promise<CallAhead | undefined> {
    const { admission } = call;
    if (!admission || this.active >= MAX_AHEAD) return undefined;
    try {
      const ready = await this.ready(call, []);
      if ('refused' in ready || (await this.mustWait(call, ready))) return undefined;
      const key = keyOf(call);
      this.admitted.set(key, true);
      const begin = (signal: AbortSignal | undefined): BegunCall => {
        this.admitted.delete(key);
        const running = this.execute(key, signal, (aborted) => this.make(call, ready, [], aborted));
        this.ahead.set(key, running);
        return {
          abort: async () => {
            running.abort.abort();
            await running.step.catch(() => {});
          },
        };
      };
      const { requestId } = call;
      const { limits, estimatedTokens } = admission;
      const drop = async () => {
        await this.deps.quota.settled({ requestId, limits, tokenDifference: -estimatedTokens }, []);
      };
      return { first: firstCallOf(call, admission, ready), begin, drop };
    } catch (error) {
      if (!(error instanceof CallFailed || error instanceof HoldfastError)) throw error;
      // The workflow finds the same, and tells.
      return undefined;
    }
  }

  /** Stops the calls of a cancelled request or pipeline at once, if this process makes them. */
  abort(id: string): void {
    const own = (key: string) => key.startsWith(`${id}:`) || key.startsWith(`${id}.`);
    for (const [key, { abort }] of this.inFlight) if (own(key)) abort.abort();
  }

  /** Stops what no activity has joined: another process goes on with it. Resolves when all of it is journalled. */
  async stop(): Promise<void> {
    const reason = new HoldfastError('gateway_unavailable', 'The gateway stopped during this call.');
    for (const { abort } of this.inFlight.values()) abort.abort(reason);
    await Promise.allSettled([...this.inFlight.values()].map(({ step }) => step));
  }

  private execute(
    key: string,
    signal: AbortSignal | undefined,
    make: (signal: AbortSignal) => Promise<ModelCallResult | undefined>,
  ): Running {
    const abort = new AbortController();
    const step = make(signal ? AbortSignal.any([signal, abort.signal]) : abort.signal).finally(() => {
      if (this.inFlight.get(key) === running) this.inFlight.delete(key);
    });
    // Nobody may have joined it by then.
    step.catch(() => {});
    const running = { step, abort };
    this.inFlight.set(key, running);
    return running;
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
      await this.awaitOutcome(call, last, signal);
      return undefined;
    }
    const ready = await this.ready(call, made);
    if ('refused' in ready) {
      // The journal may hold an answer that needs no key.
      if (known) return undefined;
      throw withoutKey(call, made, ready);
    }
    const { n } = ready.key;
    await this.deps.streams.refuseBroken(call, n, last?.error);
    if (n > 1 || call.targetIndex > 0) await this.cover(call);
    if (signal.aborted) throw new CallFailed(abortReason(signal));
    const wait = await this.mustWait(call, ready);
    // What an earlier execution did has not been read yet: an answer that is there waits for nothing.
    if (wait && known) return undefined;
    if (wait) throw wait;

    await this.deps.streams.started(call);
    const claimed = await this.claim(call, ready);
    if (claimed === 'taken' || (claimed === 'closed' && known)) return undefined;
    if (claimed === 'closed') {
      throw new CallFailed(new HoldfastError('gateway_cancelled', 'The request is settled already.'));
    }
    return this.make(call, ready, made, signal);
  }

  /** All is had before the claim, so that a claim always means a call. */
  private async ready(call: TargetCall, made: readonly Attempt[]): Promise<Ready | NoKey> {
    const adapter = this.adapter(call);
    const chosen = await this.deps.credentials.choose(adapter, call.keyScope, made.length > 0);
    mayCallAgain(call, made, chosen);
    if ('refused' in chosen) return chosen;
    const request = await this.request(call);
    const n = (made.at(-1)?.n ?? 0) + 1;
    const key: AttemptKey = { requestId: call.requestId, targetIndex: call.targetIndex, n };
    const { provider, model, maxCostNanos } = call.target;
    const providerKeyId = chosen.key?.id ?? null;
    const claim = { ...key, provider, model, maxCostNanos, owner: this.deps.processId, providerKeyId };
    return { adapter, chosen, request, key, claim };
  }

  /** Takes the call from the caller's limits and the provider's; what is thrown if it has to wait for them. */
  private async mustWait(call: TargetCall, { key, chosen }: Ready): Promise<CallFailed | undefined> {
    const first = isFirst(key);
    if (first && this.admitted.delete(keyOf(key))) return undefined;
    if (first && call.admission) {
      const waitedMs = Date.now() - (call.admission.since ?? Date.now());
      const at = { deadlineAt: call.deadlineAt, waitedMs };
      const waitMs = await this.deps.quota.admit(call.requestId, call.admission, at);
      if (waitMs !== undefined) return limitReached(waitMs);
    }
    const waitMs = await this.deps.buckets.take(call, chosen.key);
    return waitMs > 0 ? bucketFull(call, waitMs) : undefined;
  }

  private async claim(call: TargetCall, ready: Ready): Promise<'claimed' | 'taken' | 'closed'> {
    if (!call.admission || !isFirst(ready.key)) return this.deps.attempts.claim(ready.claim);
    const admission = await this.deps.admissions.admit(firstCallOf(call, call.admission, ready));
    if (admission.state === 'refused') throw new CallFailed(budgetExceeded(admission.exceeded));
    return admission.state;
  }

  /** Makes a claimed call; undefined when the next one may follow at once. */
  private async make(
    call: TargetCall,
    { adapter, chosen, request, key }: Ready,
    made: readonly Attempt[],
    signal: AbortSignal,
  ): Promise<ModelCallResult | undefined> {
    const writer = this.deps.streams.writer(call, key.n);
    const started = performance.now();
    const { target, deadlineAt } = call;
    const { credential } = chosen;
    const onLimits = (report: LimitReport) => this.deps.buckets.learn(call, chosen.key, report);
    const options = { adapter, request, target, attempt: key.n, credential, deadlineAt, signal, writer, onLimits };
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
    const decision = decideRetry(error, { ...retryContext(call, [...made, { error }]), hasOtherKey });
    if (hasOtherKey && decision.retry) return;
    throw new CallFailed(error, decision.retry ? decision.delayMs : undefined);
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
  private async awaitOutcome(call: TargetCall, attempt: Attempt, signal: AbortSignal): Promise<void> {
    let seenAsMine = 0;
    const look = async () => {
      const current = (await this.deps.attempts.ofTarget(attempt)).find(({ n }) => n === attempt.n);
      if (current?.state !== 'claimed' || this.ahead.has(keyOf(call))) return 'ended';
      if (current.owner !== this.deps.processId) return current.ownerAlive ? undefined : 'abandoned';
      // Whoever claimed it a moment ago may be about to begin.
      seenAsMine += 1;
      return seenAsMine > 1 ? 'abandoned' : undefined;
    };
    const abandoned = await pollUntil(signal, look).catch(async (error: unknown) => {
      const reason = abortReason(signal);
      // Who makes the call hears of it as the caller does, and what it cost so far is booked.
      if (reason.code === 'gateway_cancelled') {
        await this.deps.streams.cancelled(call, reason);
        await pollUntil(AbortSignal.timeout(LAST_WORD_MS), look).catch(() => {});
      }
      throw error;
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

const isFirst = ({ targetIndex, n }: AttemptKey): boolean => targetIndex === 0 && n === 1;

const firstCallOf = (
  { requestId }: TargetCall,
  { maxCostNanos: nanos, priceVersion }: AdmissionRequest,
  { claim }: Ready,
): FirstCall => ({ reservation: { requestId, nanos, priceVersion }, claim });

/** Joins a call that was made ahead: from here on the activity decides how long it goes on. */
async function adopt({ step, abort }: Running, signal: AbortSignal): Promise<ModelCallResult | undefined> {
  const onAbort = () => abort.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await step;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

const overCap = () =>
  new HoldfastError('policy_budget_exceeded', 'What is left of the run’s max_cost_usd does not cover a further call.', {
    param: MAX_COST_PARAM,
  });

/** A full bucket may have room earlier than it said: other calls give back what they did not use. */
const MAX_BUCKET_STEP_MS = 5_000;

const limitReached = (waitMs: number) =>
  new CallFailed(
    new HoldfastError('policy_rate_limited', 'The request waits for a rate limit.', { retryAfterMs: waitMs }),
    waitMs,
  );

/** No call was made, so there is no attempt and nothing counts against the target's calls. */
function bucketFull({ target, hasNextTarget, deadlineAt }: TargetCall, waitMs: number): CallFailed {
  const message = `${target.provider}: the provider’s rate limit for ${target.model} is used up`;
  const error = new HoldfastError('provider_rate_limited', message, { retryAfterMs: waitMs });
  const waits = worthWaiting(waitMs, { hasNextTarget, remainingMs: deadlineAt - Date.now() });
  return new CallFailed(error, waits ? Math.min(waitMs, MAX_BUCKET_STEP_MS) : undefined);
}
