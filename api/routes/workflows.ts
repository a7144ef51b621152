import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { fromDollars } from '../../domain/money.ts';
import { pipelineFields } from '../../domain/pipeline-request.ts';
import type { RunLimits } from '../../domain/pipeline-run.ts';
import { isFinal } from '../../domain/run-state.ts';
import type { Run } from '../../storage/postgres/runs.ts';
import { type AuthenticatedCaller, visibleTo } from '../auth/caller.ts';
import { cancelRun } from '../runs/background.ts';
import { idempotencyKeyOf, requestIdOf } from '../runs/caller-ids.ts';
import { submitAgain } from '../runs/jobs/again.ts';
import { sendJobEvents } from '../runs/jobs/job-events.ts';
import { pipelineJobs } from '../runs/jobs/pipeline.ts';
import { PIPELINE_ENDPOINT, submitPipeline } from '../runs/pipelines.ts';
import { historyEntry, historyOf } from '../runs/workflow-history.ts';
import { workflowObject, workflowObjectOf } from '../runs/workflow-object.ts';
import { errorEnvelope } from '../schemas/common.ts';
import { dollars, runTermsFields, toRunTerms } from '../schemas/run-terms.ts';
import type { Routes } from './route.ts';

const params = z.object({ id: z.string() });
const failures = { '4xx': errorEnvelope, '5xx': errorEnvelope };
const answer = { 200: workflowObject, ...failures };

const newWorkflow = z.strictObject({ ...pipelineFields, ...runTermsFields });

const resumption = z.strictObject({
  /** Limits from now on; those that are left out stay. */
  max_cost_usd: dollars.optional(),
  max_steps: pipelineFields.max_steps,
  max_duration: pipelineFields.max_duration,
});

const toLimits = ({ max_cost_usd, max_steps, max_duration }: z.output<typeof resumption>): RunLimits => ({
  ...(max_cost_usd !== undefined && { maxCostNanos: fromDollars(max_cost_usd) }),
  ...(max_steps !== undefined && { maxSteps: max_steps }),
  ...(max_duration !== undefined && { maxDurationMs: max_duration * 1000 }),
});

/** Pipelines of agents and people. */
export const workflows: Routes = async (app, deps) => {
  const needs = 'models:call';
  const tags = ['workflows'];
  const found = async (id: string, caller: AuthenticatedCaller): Promise<Run> => {
    const run = await deps.storedRuns.find(id, visibleTo(caller));
    if (run?.kind !== 'pipeline') throw new HoldfastError('caller_not_found', `There is no workflow '${id}'.`);
    return run;
  };
  const shown = async (id: string, caller: AuthenticatedCaller) => workflowObjectOf(deps, await found(id, caller));

  const start = {
    summary: 'Start a workflow of agents and people',
    description:
      'Answers at once. `Idempotency-Key` makes sure that it is done once. It is a job too, under `/v1/jobs`.',
    tags,
    body: newWorkflow,
    response: { 202: workflowObject, ...failures },
  };
  app.post(PIPELINE_ENDPOINT, { config: { needs }, schema: start }, async (request, reply) => {
    const { workflow, input, max_steps, max_duration, ...given } = request.body;
    const { terms, webhook } = toRunTerms(deps, 'pipeline', given);
    const { id, replayed } = await submitPipeline(deps, {
      body: { workflow, input, max_steps, max_duration },
      caller: request.caller,
      terms,
      requestId: requestIdOf(request),
      idempotencyKey: idempotencyKeyOf(deps.bodies, request, 'workflows'),
    });
    reply.header('x-holdfast-run-id', id);
    if (replayed) reply.header('idempotent-replayed', 'true');
    const object = await shown(id, request.caller);
    return reply.status(202).send(webhook && !replayed ? { ...object, webhook } : object);
  });

  const read = { summary: 'A workflow, with its steps', tags, params, response: answer };
  app.get('/workflows/:id', { config: { needs }, schema: read }, ({ params, caller }) => shown(params.id, caller));

  const history = {
    summary: 'What a workflow did, in the order in which it happened',
    tags,
    params,
    response: { 200: z.object({ data: z.array(historyEntry) }), ...failures },
  };
  app.get('/workflows/:id/history', { config: { needs }, schema: history }, async ({ params, caller }) => ({
    data: [...(await historyOf(deps, await found(params.id, caller)))],
  }));

  const events = {
    summary: 'What a workflow does, as server-sent events',
    description:
      '`Last-Event-ID` or `starting_after` resumes after an event. Ends with the workflow’s last state. ' +
      'The same over a WebSocket: `/ws/executions/{id}`.',
    tags,
    params,
    querystring: z.object({ starting_after: z.coerce.number().int().min(0).optional() }),
  };
  app.get('/workflows/:id/events', { config: { needs }, schema: events }, async (request, reply) => {
    const { id } = await found(request.params.id, request.caller);
    return sendJobEvents(deps, request, reply, { id, startingAfter: request.query.starting_after });
  });

  const acting = (summary: string) => ({ summary, tags, params, response: answer });
  const open = async (id: string, caller: AuthenticatedCaller): Promise<Run> => {
    const run = await found(id, caller);
    if (isFinal(run.state)) throw new HoldfastError('caller_conflict', `The workflow is ${run.state} already.`);
    return run;
  };

  const cancel = acting('Cancel a workflow; what it used is settled');
  app.post('/workflows/:id/cancel', { config: { needs }, schema: cancel }, async ({ params, caller }) => {
    await cancelRun(deps, await open(params.id, caller));
    return shown(params.id, caller);
  });

  const pause = acting('Let nothing further of a workflow begin; calls under way are finished');
  app.post('/workflows/:id/pause', { config: { needs }, schema: pause }, async ({ params, caller }) => {
    await deps.runs.pause((await open(params.id, caller)).id);
    return shown(params.id, caller);
  });

  const resume = {
    ...acting('Go on with a workflow that was paused or has reached a limit'),
    body: resumption.nullish(),
  };
  app.post('/workflows/:id/resume', { config: { needs }, schema: resume }, async ({ params, caller, body }) => {
    const run = await open(params.id, caller);
    const limits = toLimits(body ?? {});
    await deps.storedRuns.setLimits(run.id, limits);
    await deps.runs.resume(run.id, limits);
    return shown(run.id, caller);
  });

  const retry = {
    summary: 'Do a workflow again from its failed step, or from another',
    description: 'Steps that were done are taken over and not paid again.',
    tags,
    params,
    body: z.strictObject({ from: z.string().optional() }).nullish(),
    response: { 202: workflowObject, ...failures },
  };
  app.post('/workflows/:id/retry', { config: { needs }, schema: retry }, async (request, reply) => {
    const run = await found(request.params.id, request.caller);
    const { id, replayed } = await submitAgain(deps, run, pipelineJobs, {
      how: 'retry',
      caller: request.caller,
      idempotencyKey: idempotencyKeyOf(deps.bodies, request, `workflows/${run.id}/retry`),
      from: request.body?.from,
    });
    if (replayed) reply.header('idempotent-replayed', 'true');
    return reply.status(202).send(await shown(id, request.caller));
  });
};
