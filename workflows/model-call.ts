import {
  ActivityCancellationType,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
  sleep,
} from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import type { BatchedCall } from '../domain/batched-call.ts';
import { ERRORS, type ErrorInfo, HoldfastError, MAX_COST_PARAM } from '../domain/errors.ts';
import { type CallTarget, type ModelCall, type ModelCallResult, targetCallOf } from '../domain/model-call.ts';
import type { NanoDollars } from '../domain/money.ts';
import { announceBudgetAlerts } from './budget-alert.ts';
import { errorInfoOf, toWorkflowFailure } from './failures.ts';

export type Quota = Pick<Activities, 'reserve' | 'settle'>;

/** Quota, cost and ledger: milliseconds each, repeated until the database answers. */
const localQuota = proxyLocalActivities<Quota>({
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

/** What can be done to a call in the background while it goes on. */
export interface CallControls {
  /** The most all calls of the run may cost. */
  readonly maxCostNanos: NanoDollars | undefined;
  /** Before each step; resolves once the run may go on. */
  gate(): Promise<void>;
  /** Resolves once a budget that was exceeded may have been raised. */
  budgetExceeded(error: ErrorInfo): Promise<void>;
  /** Resolves once the call was made together with others, or is to be made by itself. */
  gathered?(call: BatchedCall): Promise<void>;
  /** All limits and budgets let the call in. */
  admitted?(): void;
  /** For calls side by side: a replay resolves local activities in other groups than they ended in. */
  readonly quota?: Quota;
}

/**
 * The one step that every model call of every workflow goes through: reserve, try each target, settle, answer.
 * Ends as failed under the code of the last error, or as cancelled; either way what was used is settled.
 */
export async function modelCall(call: ModelCall, controls?: CallControls): Promise<ModelCallResult> {
  const ended = await reserveAndCall(call, controls);
  const settled = 'result' in ended ? ended.result.settled : undefined;
  // Histories of before there were alerts have no value here.
  const alerts = settled?.alerts ?? (await settle(call, ended, controls)) ?? [];
  // Nobody else would tell of them if the run was cancelled.
  await CancellationScope.nonCancellable(() => announceBudgetAlerts(alerts));
  if ('result' in ended) return ended.result;
  if (ended.error.code === 'gateway_cancelled') throw new CancelledFailure(ended.error.message);
  throw toWorkflowFailure(ended.error);
}

type Ended = { readonly result: ModelCallResult } | { readonly error: ErrorInfo };

async function reserveAndCall(call: ModelCall, controls: CallControls | undefined): Promise<Ended> {
  try {
    for (;;) {
      const ended = await tryOnce(call, controls);
      if ('result' in ended || !controls || ended.error.code !== 'policy_budget_exceeded') return ended;
      await controls.budgetExceeded(ended.error);
    }
  } catch (error) {
    return { error: errorInfoOf(error) };
  }
}

async function tryOnce(call: ModelCall, controls: CallControls | undefined): Promise<Ended> {
  try {
    await controls?.gate();
    refuseOverCap(call, controls);
    if (!call.checkedByCall) await reserve(call, controls);
    controls?.admitted?.();
    if (call.gather) await controls?.gathered?.(batchedCallOf(call));
    return { result: await tryTargets(call, controls) };
  } catch (error) {
    return { error: errorInfoOf(error) };
  }
}

const batchedCallOf = ({ requestId, bodyRef, targets, keyScope }: ModelCall): BatchedCall => ({
  requestId,
  bodyRef,
  target: targets[0] as CallTarget,
  ...(keyScope && { keyScope }),
});

function refuseOverCap({ admission }: ModelCall, controls: CallControls | undefined): void {
  if (admission.maxCostNanos <= (controls?.maxCostNanos ?? Number.POSITIVE_INFINITY)) return;
  throw new HoldfastError('policy_budget_exceeded', 'One call could cost more than the run’s max_cost_usd allows.', {
    param: MAX_COST_PARAM,
  });
}

/** Waiting for a limit happens here, by timers: a local activity would hold the workflow task. */
async function reserve(
  { requestId, admission, deadlineAt }: ModelCall,
  { quota = localQuota }: Pick<CallControls, 'quota'> = {},
): Promise<void> {
  const startedAt = Date.now();
  for (;;) {
    const wait = await quota.reserve(requestId, admission, { deadlineAt, waitedMs: Date.now() - startedAt });
    if (!wait) return;
    await sleep(wait.waitMs, { summary: 'waiting for a rate limit' });
  }
}

async function tryTargets(call: ModelCall, controls: CallControls | undefined): Promise<ModelCallResult> {
  for (let index = 0; ; index += 1) {
    const target = call.targets[index] as CallTarget;
    const next = call.targets[index + 1];
    try {
      // Also before the first: it may have been paused while it waited for a limit.
      await controls?.gate();
      const result = (await atHand(call, index)) ?? (await callTarget(call, index, controls?.maxCostNanos));
      if (index > 0) logFallbackSuccess(call, index);
      return result;
    } catch (error) {
      const info = errorInfoOf(error);
      if (isCancellation(error) || !next || ERRORS[info.code].fallback === 'stop') throw error;
      logFallback(call, index, target, next, info);
    }
  }
}

/** Who accepted the request may have made its first call meanwhile. */
async function atHand(call: ModelCall, targetIndex: number): Promise<ModelCallResult | undefined> {
  if (!call.checkedByCall || call.background || targetIndex > 0) return undefined;
  const { answerAtHand } = proxyLocalActivities<Pick<Activities, 'answerAtHand'>>({
    startToCloseTimeout: '20 seconds',
    retry: { initialInterval: '100 milliseconds', maximumInterval: '5 seconds' },
    summary: nameOf(call, targetIndex),
  });
  return answerAtHand({ requestId: call.requestId, targetIndex });
}

/** What operators see of a call. */
function nameOf({ step, targets }: ModelCall, targetIndex: number): string {
  const { provider, model } = targets[targetIndex] as CallTarget;
  return `${step === undefined ? '' : `${step}: `}${provider}/${model}`;
}

function callTarget(
  call: ModelCall,
  targetIndex: number,
  maxCostNanos: NanoDollars | undefined,
): Promise<ModelCallResult> {
  const untilDeadline = Math.max(1, call.deadlineAt - Date.now()) + GRACE_MS;
  const { callProvider } = proxyActivities<Pick<Activities, 'callProvider'>>({
    summary: nameOf(call, targetIndex),
    // The activity keeps the time limits of a call itself; these end what a dead worker left.
    startToCloseTimeout: untilDeadline,
    scheduleToCloseTimeout: untilDeadline,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    // How often a target is called is decided by its journal, not by this policy: a lost worker is not a failed call.
    retry: { initialInterval: Math.max(100, call.retryDelayMs), backoffCoefficient: 2, maximumInterval: '30 seconds' },
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    // Eager tasks pass the queue by, and with it priorities and fairness between tenants.
    allowEagerDispatch: !call.background,
  });
  return callProvider(targetCallOf(call, targetIndex, maxCostNanos));
}

function settle(
  call: ModelCall,
  ended: Ended,
  { quota = localQuota }: Pick<CallControls, 'quota'> = {},
): Promise<readonly string[]> {
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
