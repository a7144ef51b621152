import {
  ActivityCancellationType,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
} from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { ERRORS, type ErrorInfo } from '../domain/errors.ts';
import type { CallTarget, ModelCall, ModelCallResult } from '../domain/model-call.ts';
import { announceBudgetAlerts } from './budget-alert.ts';
import { errorInfoOf, toWorkflowFailure } from './failures.ts';

/** Quota, cost and ledger: milliseconds each, repeated until the database answers. */
const quota = proxyLocalActivities<Pick<Activities, 'reserve' | 'settle'>>({
  startToCloseTimeout: '20 seconds',
  // Longer waits become workflow timers, so that a workflow task is never held for them.
  localRetryThreshold: '500 milliseconds',
  retry: { initialInterval: '100 milliseconds', maximumInterval: '5 seconds' },
  summary: 'quota and ledger',
});

/** A worker that says nothing for this long is dead. */
const HEARTBEAT_TIMEOUT_MS = 5_000;
/** What an activity may take beyond its own limits, which it enforces itself. */
const GRACE_MS = 5_000;

/**
 * The one step that every model call of every workflow goes through: reserve, try each target, settle, answer.
 * Ends as failed under the code of the last error, or as cancelled; either way what was used is settled.
 */
export async function modelCall(call: ModelCall): Promise<ModelCallResult> {
  const ended = await reserveAndCall(call);
  // Histories of before there were alerts have no value here.
  await announceBudgetAlerts((await settle(call, ended)) ?? []);
  if ('result' in ended) return ended.result;
  if (ended.error.code === 'gateway_cancelled') throw new CancelledFailure(ended.error.message);
  throw toWorkflowFailure(ended.error);
}

type Ended = { readonly result: ModelCallResult } | { readonly error: ErrorInfo };

async function reserveAndCall(call: ModelCall): Promise<Ended> {
  try {
    await quota.reserve(call.requestId, call.admission);
    return { result: await tryTargets(call) };
  } catch (error) {
    return { error: errorInfoOf(error) };
  }
}

async function tryTargets(call: ModelCall): Promise<ModelCallResult> {
  for (let index = 0; ; index += 1) {
    const target = call.targets[index] as CallTarget;
    const next = call.targets[index + 1];
    try {
      const result = await callTarget(call, index);
      if (index > 0) logFallbackSuccess(call, index);
      return result;
    } catch (error) {
      const info = errorInfoOf(error);
      if (isCancellation(error) || !next || ERRORS[info.code].fallback === 'stop') throw error;
      logFallback(call, index, target, next, info);
    }
  }
}

function callTarget(call: ModelCall, targetIndex: number): Promise<ModelCallResult> {
  const target = call.targets[targetIndex] as CallTarget;
  const first = call.targets[0] as CallTarget;
  const untilDeadline = Math.max(1, call.deadlineAt - Date.now()) + GRACE_MS;
  const { callProvider } = proxyActivities<Pick<Activities, 'callProvider'>>({
    summary: `${target.provider}/${target.model}`,
    // The activity keeps the time limits of a call itself; these end what a dead worker left.
    startToCloseTimeout: untilDeadline,
    scheduleToCloseTimeout: untilDeadline,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    // How often a target is called is decided by its journal, not by this policy: a lost worker is not a failed call.
    retry: { initialInterval: Math.max(100, call.retryDelayMs), backoffCoefficient: 2, maximumInterval: '30 seconds' },
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });
  return callProvider({
    requestId: call.requestId,
    bodyRef: call.bodyRef,
    stream: call.stream,
    resumable: call.resumable,
    targetIndex,
    target,
    hasNextTarget: targetIndex + 1 < call.targets.length,
    ...(target.provider !== first.provider && { fallbackFrom: first.provider }),
    retryDelayMs: call.retryDelayMs,
    deadlineAt: call.deadlineAt,
  });
}

function settle(call: ModelCall, ended: Ended): Promise<readonly string[]> {
  const { requestId, admission } = call;
  const usage = 'result' in ended ? ended.result.usage : undefined;
  const used = usage ? usage.inputTokens + usage.outputTokens : admission.estimatedTokens;
  const cancelled = 'error' in ended && ended.error.code === 'gateway_cancelled';
  return CancellationScope.nonCancellable(() =>
    quota.settle({
      requestId,
      limits: admission.limits,
      tokenDifference: used - admission.estimatedTokens,
      ...('error' in ended
        ? { state: cancelled ? ('cancelled' as const) : ('failed' as const), error: ended.error }
        : { state: 'completed' as const }),
    }),
  );
}

function logFallback(call: ModelCall, index: number, target: CallTarget, next: CallTarget, info: ErrorInfo): void {
  const message =
    `Provider '${target.provider}' failed (attempt ${index + 1}/${call.targets.length}): ${info.message}. ` +
    `Trying fallback to '${next.provider}'...`;
  log.warn(message, { event: 'fallback', from: target.provider, to: next.provider, error: info.code });
}

function logFallbackSuccess(call: ModelCall, index: number): void {
  const target = call.targets[index] as CallTarget;
  const first = call.targets[0] as CallTarget;
  const message =
    `FALLBACK SUCCESS: Provider '${target.provider}' succeeded after '${first.provider}' failed. ` +
    `Attempt ${index + 1}/${call.targets.length}`;
  log.info(message, { event: 'fallback_success', from: first.provider, to: target.provider });
}
