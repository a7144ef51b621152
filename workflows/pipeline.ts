import {
  allHandlersFinished,
  CancellationScope,
  CancelledFailure,
  condition,
  continueAsNew,
  sleep,
} from '@temporalio/workflow';
import type { ErrorInfo } from '../domain/errors.ts';
import type { Step } from '../domain/pipeline.ts';
import type { PipelineInput } from '../domain/pipeline-run.ts';
import { errorInfoOf, toWorkflowFailure } from './failures.ts';
import { humanInLoop } from './patterns/human-in-loop.ts';
import { parallel } from './patterns/parallel.ts';
import { sequential } from './patterns/sequential.ts';
import { single } from './patterns/single.ts';
import { supervisor } from './patterns/supervisor.ts';
import { records } from './pipeline/activities.ts';
import { Drained } from './pipeline/drained.ts';
import { PipelineRun } from './pipeline/pipeline-run.ts';
import { announceWebhooks } from './webhook.ts';

/** A pipeline of agents and people, under the name of its outermost pattern. Returns its output, a body. */
export async function pipeline(input: PipelineInput): Promise<string> {
  const run = new PipelineRun(input, perform);
  const workflow = CancellationScope.current();
  const ended = await CancellationScope.nonCancellable(() => follow(run, input, workflow));
  if (ended === 'drained') return continueAsNew<typeof pipeline>(run.carry());
  if ('outputRef' in ended) return ended.outputRef;
  throw toWorkflowFailure(ended.error);
}

function perform(run: PipelineRun, step: Step, inputRef: string): Promise<string> {
  switch (step.pattern) {
    case 'single':
      return single(run, step, inputRef);
    case 'sequential':
      return sequential(run, step, inputRef);
    case 'parallel':
      return parallel(run, step, inputRef);
    case 'supervisor':
      return supervisor(run, step, inputRef);
    case 'human_in_loop':
      return humanInLoop(run, step, inputRef);
  }
}

type Ended = 'drained' | { readonly outputRef: string } | { readonly error: ErrorInfo };

/** Does the steps, with the state of the run beside them, until they end, the deadline is over or somebody cancels. */
async function follow(run: PipelineRun, input: PipelineInput, workflow: CancellationScope): Promise<Ended> {
  const steps = new CancellationScope();
  const clock = new CancellationScope();
  let expired = false;
  workflow.cancelRequested.catch(() => steps.cancel());
  void clock
    .run(() => sleep(Math.max(1, input.deadlineAt - Date.now()), { summary: 'deadline' }))
    .then(
      () => {
        expired = true;
        steps.cancel();
      },
      () => {},
    );
  const state = run.keepState();
  const ended = await steps.run(() => attempt(run, input)).catch((error: unknown) => endOf(error, expired));
  clock.cancel();
  run.end();
  await state;
  await condition(allHandlersFinished);
  // Whoever cancels while it goes on in a new run is heard all the same.
  if (ended === 'drained' && !steps.consideredCancelled) return ended;
  const over = ended === 'drained' ? endOf(new CancelledFailure('The run was cancelled.'), expired) : ended;
  const failure = over !== 'drained' && 'error' in over ? over.error : undefined;
  const last = failure ? (failure.code === 'gateway_cancelled' ? 'cancelled' : 'failed') : 'completed';
  const transition = { state: last, ...(failure && { error: failure }) } as const;
  await announceWebhooks(await records(`state: ${last}`).recordState(input.runId, transition));
  return over;
}

async function attempt(run: PipelineRun, { runId, root, inputRef, resumes }: PipelineInput): Promise<Ended> {
  if (resumes) run.done = new Map(Object.entries(await records('steps that are done').finishedSteps(runId)));
  return { outputRef: await run.perform(root, inputRef) };
}

function endOf(error: unknown, expired: boolean): Ended {
  if (error instanceof Drained) return 'drained';
  if (!expired) return { error: errorInfoOf(error) };
  return { error: { code: 'gateway_deadline_exceeded', message: 'The run did not finish before its deadline.' } };
}
