import { HoldfastError } from '../../../domain/errors.ts';
import { isFinal } from '../../../domain/run-state.ts';
import type { IdempotencyKey } from '../../../storage/postgres/idempotency.ts';
import type { Run } from '../../../storage/postgres/runs.ts';
import { type AuthenticatedCaller, personOf } from '../../auth/caller.ts';
import type { ApiDeps } from '../../context.ts';
import { defaultTerms, type RunInput } from '../background.ts';
import type { SubmittedRun } from '../submit-once.ts';
import type { JobKind } from './job-kind.ts';

export interface Repetition {
  /** `retry`: what was finished is not paid again. `rerun`: from the start. */
  readonly how: 'retry' | 'rerun';
  readonly caller: AuthenticatedCaller;
  readonly idempotencyKey: IdempotencyKey | undefined;
  /** The step of a pipeline that a retry begins at. */
  readonly from?: string | undefined;
}

/** Does an ended run again, as a new one. Throws `caller_conflict` for a run that cannot be done again like that. */
export async function submitAgain(
  deps: ApiDeps,
  run: Run,
  kind: JobKind,
  { how, caller, idempotencyKey, from }: Repetition,
): Promise<SubmittedRun> {
  const allowed = how === 'rerun' || from !== undefined ? isFinal(run.state) : FAILED.has(run.state);
  if (!allowed) {
    const what = how === 'retry' ? 'retried' : 'run again';
    throw new HoldfastError('caller_conflict', `The run is ${run.state}; it cannot be ${what}.`);
  }
  const input = await deps.bodies.get<RunInput>(run.inputRef);
  if (!input) throw new HoldfastError('caller_not_found', `What '${run.id}' was asked to do is not kept any more.`);
  return kind.submit(deps, {
    body: { ...input.body, ...raised(run) },
    // Who asks pays, by its own rules; an operator from outside acts for whose run it was.
    caller: caller.owner === run.owner ? caller : input.caller,
    terms: {
      ...defaultTerms(deps, run.kind),
      priority: run.priority,
      maxCostNanos: run.maxCostNanos ?? undefined,
      metadata: run.metadata,
      webhook: run.webhook ?? undefined,
    },
    requestId: undefined,
    idempotencyKey,
    ...(how === 'retry' ? { retryOf: run.id } : { rerunOf: run.id }),
    from,
    requesters: [...(input.requesters ?? []), personOf(caller)],
  });
}

/** Limits of a pipeline, as they were last. */
const raised = ({ maxSteps, maxDurationMs }: Run) => ({
  ...(maxSteps !== null && { max_steps: maxSteps }),
  ...(maxDurationMs !== null && { max_duration: maxDurationMs / 1000 }),
});

const FAILED: ReadonlySet<string> = new Set(['failed', 'cancelled']);
