import { CancellationScope, CancelledFailure, isCancellation } from '@temporalio/workflow';
import type { BegunStep, StepEnding, StepToBegin } from '../../domain/pipeline-run.ts';
import { errorInfoOf } from '../failures.ts';
import { records } from './activities.ts';
import { Drained } from './drained.ts';
import type { PipelineRun } from './pipeline-run.ts';

/** Does a step unless it is done, for all to see. `work` ends it by `finish`. Returns its output, a body. */
export async function recorded(
  run: PipelineRun,
  step: Omit<StepToBegin, 'runId'>,
  work: (begun: BegunStep) => Promise<string>,
): Promise<string> {
  const { step: name } = step;
  const done = run.done.get(name);
  if (done !== undefined) return done;
  try {
    const begun = await begin(run, step);
    run.note(name, begun.agent ? `${begun.agent.name} at work` : 'under way');
    return await work(begun);
  } catch (error) {
    if (error instanceof Drained) throw error;
    const info = errorInfoOf(error);
    const state = isCancellation(error) ? 'cancelled' : 'failed';
    run.note(name, `${state}: ${info.message}`);
    const { spentNanos } = await CancellationScope.nonCancellable(() =>
      records(`${name}: ${state}`).finishStep({ runId: run.runId, step: name, state, error: info }),
    );
    run.cost.spent(spentNanos, name);
    throw error;
  }
}

/** Where an earlier run of the workflow left it, if one did. */
async function begin(run: PipelineRun, step: Omit<StepToBegin, 'runId'>): Promise<BegunStep> {
  const { runId } = run;
  const before = run.conversation(step.step);
  if (before) return before;
  const scope = CancellationScope.current();
  // A cancellation in the middle would leave it under way for ever.
  const begun = await CancellationScope.nonCancellable(() =>
    records(`${step.step}: begin`).beginStep({ runId, ...step }),
  );
  if (scope.consideredCancelled) throw new CancelledFailure('The step was cancelled.');
  return begun;
}

/** Ends a step with its output. Undefined where a model's answer cannot be the output: it has to be told why. */
export async function finish(
  run: PipelineRun,
  step: string,
  output: Pick<StepEnding, 'responseRef' | 'definitionRef' | 'outputRef'>,
): Promise<{ readonly outputRef?: string; readonly problemRef?: string }> {
  const ending = { runId: run.runId, step, state: 'completed', ...output } as const;
  const finished = await records(`${step}: finish`).finishStep(ending);
  run.cost.spent(finished.spentNanos, step);
  if (finished.outputRef !== undefined) run.note(step, 'done');
  return finished;
}
