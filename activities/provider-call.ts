import { CancelledFailure, Context } from '@temporalio/activity';
import { CallFailed } from '../calls/call-failed.ts';
import type { Calls } from '../calls/calls.ts';
import type { TargetKey } from '../domain/attempt.ts';
import { HoldfastError, toHoldfastError } from '../domain/errors.ts';
import type { ModelCallResult, TargetCall } from '../domain/model-call.ts';
import { toFailure, toInfrastructureFailure } from './failures.ts';

/** Far below the heartbeat timeout; the SDK sends at most one per 0.8 × timeout. */
const HEARTBEAT_MS = 1_000;

export interface ProviderCallDeps {
  readonly calls: Calls;
}

export function createProviderCallActivities({ calls }: ProviderCallDeps) {
  return {
    /**
     * The answer of a call that was made while its workflow was started, if it was quick: the run is over with its first
     * workflow task then. Makes no call, so it may be a local activity.
     */
    answerAtHand: (target: TargetKey): Promise<ModelCallResult | undefined> => calls.answerAtHand(target),

    /** Behind every model call. It is a regular activity: it may take minutes and must notice a dead worker. */
    async callProvider(call: TargetCall): Promise<ModelCallResult> {
      const context = Context.current();
      const heartbeat = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
      const abort = new AbortController();
      context.cancellationSignal.addEventListener('abort', () => abort.abort(reasonOf(context)), { once: true });
      try {
        return await calls.run(call, abort.signal);
      } catch (error) {
        throw failureOf(error, context);
      } finally {
        clearInterval(heartbeat);
      }
    },
  };
}

/** What the ledger says about an aborted call. A stopped worker is not the request's end: another one continues. */
function reasonOf({ cancellationDetails }: Context): HoldfastError {
  return cancellationDetails?.cancelRequested
    ? new HoldfastError('gateway_cancelled', 'The request was cancelled.')
    : new HoldfastError('gateway_unavailable', 'The worker stopped during this call.');
}

function failureOf(error: unknown, context: Context): Error {
  if (context.cancellationSignal.aborted) {
    const { cancelRequested, paused, reset } = context.cancellationDetails ?? {};
    if (cancelRequested || paused || reset) return new CancelledFailure('The call was cancelled.');
    return toFailure(reasonOf(context), 0);
  }
  if (error instanceof CallFailed) return toFailure(error.error, error.retryInMs);
  if (!(error instanceof HoldfastError)) context.log.error('Provider call failed unexpectedly', { error });
  return toInfrastructureFailure(toHoldfastError(error));
}
