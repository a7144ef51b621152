import { z } from 'zod';
import { APPROVAL_STATES } from '../../domain/approval.ts';
import { toEnvelope } from '../../domain/error-envelope.ts';
import type { ErrorInfo } from '../../domain/errors.ts';
import { toDollars } from '../../domain/money.ts';
import { PATTERNS, STEP_STATES } from '../../domain/pipeline.ts';
import { readPipeline } from '../../domain/pipeline-body.ts';
import type { PipelineBody } from '../../domain/pipeline-request.ts';
import { RUN_STATES } from '../../domain/run-state.ts';
import { toSeconds } from '../../domain/time.ts';
import type { RunStep } from '../../storage/postgres/run-steps.ts';
import type { Run } from '../../storage/postgres/runs.ts';
import type { ApiDeps } from '../context.ts';
import { shownWebhook } from '../schemas/run-terms.ts';

const text = z.string().nullable();
const time = z.number().nullable();
const problem = z.object({ code: z.string(), message: z.string(), type: z.string(), param: text }).nullable();

const step = z.object({
  name: z.string(),
  pattern: z.enum(PATTERNS),
  /** The supervisor it works for. */
  parent: text,
  agent: text,
  status: z.enum(STEP_STATES),
  output: text,
  error: problem,
  /** Done by the run that this one repeats. */
  kept: z.boolean(),
  cost_usd: z.number(),
  started_at: z.number(),
  completed_at: time,
});

/** A pipeline as callers see it. Times are seconds since the epoch. */
export const workflowObject = z.object({
  id: z.string(),
  object: z.literal('workflow'),
  pattern: z.enum(PATTERNS),
  status: z.enum(RUN_STATES),
  input: z.string(),
  /** Once it is completed. */
  output: text,
  /** In the order in which they began. */
  steps: z.array(step),
  approvals: z.array(
    z.object({ id: z.string(), step: z.string(), status: z.enum(APPROVAL_STATES), expires_at: z.number() }),
  ),
  error: problem,
  cost_usd: z.number(),
  max_cost_usd: z.number().nullable(),
  max_steps: z.number().nullable(),
  max_duration: z.number().nullable(),
  priority: z.number(),
  deadline: z.number(),
  metadata: z.record(z.string(), z.string()),
  retry_of: text,
  rerun_of: text,
  created_at: z.number(),
  started_at: time,
  completed_at: time,
  /** Only in the answer to its creation. */
  webhook: shownWebhook.optional(),
});

const toProblem = (error: ErrorInfo | null) => error && toEnvelope(error).error;

/** What a pipeline was asked and how it stands. */
export async function workflowObjectOf(deps: ApiDeps, run: Run): Promise<z.input<typeof workflowObject>> {
  const asked = await deps.bodies.get<{ readonly body: PipelineBody }>(run.inputRef);
  const root = asked && readPipeline(asked.body.workflow).root;
  const steps = await deps.runSteps.list(run.id);
  const outputs = await deps.bodies.getMany<{ readonly content: string }>(
    steps.flatMap(({ outputRef }) => outputRef ?? []),
  );
  const outputOf = ({ outputRef }: Pick<RunStep, 'outputRef'>) =>
    outputRef === null ? null : (outputs.get(outputRef)?.content ?? null);
  const last = steps.find(({ name }) => name === root?.name);
  const approvals = await deps.approvals.list({ runId: run.id, visible: undefined, limit: 500 });
  return {
    id: run.id,
    object: 'workflow',
    pattern: root?.pattern ?? 'single',
    status: run.state,
    input: asked?.body.input ?? '',
    output: run.state === 'completed' && last ? outputOf(last) : null,
    steps: steps.map((one) => ({
      name: one.name,
      pattern: one.pattern,
      parent: one.parent,
      agent: one.agent,
      status: one.state,
      output: outputOf(one),
      error: toProblem(one.error),
      kept: one.kept,
      cost_usd: toDollars(one.costNanos),
      started_at: toSeconds(one.startedAt),
      completed_at: one.completedAt && toSeconds(one.completedAt),
    })),
    approvals: approvals.map(({ id, step, state, expiresAt }) => ({
      id,
      step,
      status: state,
      expires_at: toSeconds(expiresAt),
    })),
    error: toProblem(run.error),
    cost_usd: toDollars(run.costNanos),
    max_cost_usd: run.maxCostNanos === null ? null : toDollars(run.maxCostNanos),
    max_steps: run.maxSteps,
    max_duration: run.maxDurationMs === null ? null : run.maxDurationMs / 1000,
    priority: run.priority,
    deadline: toSeconds(run.deadlineAt),
    metadata: run.metadata,
    retry_of: run.retryOf,
    rerun_of: run.rerunOf,
    created_at: toSeconds(run.createdAt),
    started_at: run.startedAt && toSeconds(run.startedAt),
    completed_at: run.completedAt && toSeconds(run.completedAt),
  };
}
