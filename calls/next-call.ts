import { HoldfastError } from '../domain/errors.ts';
import type { TargetCall } from '../domain/model-call.ts';
import { decideRetry, refusesKey } from '../domain/retry.ts';
import type { Attempt } from '../storage/postgres/attempts.ts';
import { CallFailed } from './call-failed.ts';
import type { ChosenKey, NoKey } from './credentials.ts';

/** Calls that were lost with their process do not count as the provider's failures, but their number is bounded. */
const MAX_LOST_CALLS = 5;

/** Ends the target when its last call must not be repeated, its calls are used up, or the next one is not due yet. */
export function mayCallAgain(call: TargetCall, made: readonly Attempt[], chosen: ChosenKey | NoKey): void {
  if (call.deadlineAt <= Date.now()) {
    throw new CallFailed(
      new HoldfastError('gateway_deadline_exceeded', 'The request did not finish before its deadline.'),
    );
  }
  const last = made.at(-1);
  if (!last?.error) return;
  const context = retryContext(call, made);
  const lost = made.filter((attempt) => !isFailure(attempt)).length;
  const hasOtherKey = !('refused' in chosen) && (chosen.key !== null || last.providerKeyId !== null);
  if (!isFailure(last)) {
    if (lost <= MAX_LOST_CALLS && context.failures < call.target.maxAttempts) return;
    throw new CallFailed(HoldfastError.from(last.error));
  }
  const decision = decideRetry(last.error, { ...context, hasOtherKey });
  // Who made that call may have had nobody to tell when the next one is due.
  const dueInMs = decision.retry ? decision.delayMs - (last.endedAgoMs ?? 0) : undefined;
  if (dueInMs === undefined || dueInMs > 0) throw new CallFailed(HoldfastError.from(last.error), dueInMs);
}

/** Why a target cannot be called for want of a key, and when it is asked again. */
export function withoutKey(call: TargetCall, made: readonly Attempt[], { refused }: NoKey): CallFailed {
  const decision = decideRetry(refused, { ...retryContext(call, made), hasOtherKey: false });
  return new CallFailed(refused, decision.retry ? decision.delayMs : undefined);
}

/** What a decision about the next call goes by. */
export function retryContext(call: TargetCall, made: readonly Pick<Attempt, 'error'>[]) {
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

/** A call the provider failed, as opposed to one that was lost with its process. */
const isFailure = ({ error }: Pick<Attempt, 'error'>): boolean =>
  error !== null && error.code !== 'gateway_unavailable';
