import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { fromDollars } from '../../domain/money.ts';
import { isFinal, RUN_STATES } from '../../domain/run-state.ts';
import type { Run } from '../../storage/postgres/runs.ts';
import type { AuthenticatedCaller } from '../auth/caller.ts';
import { visibleTo } from '../auth/caller.ts';
import { cancelRun } from '../runs/background.ts';
import { idempotencyKeyOf, requestIdOf } from '../runs/caller-ids.ts';
import { submitAgain } from '../runs/jobs/again.ts';
import { batchJobs } from '../runs/jobs/batch.ts';
import { chatJobs } from '../runs/jobs/chat.ts';
import { sendJobEvents } from '../runs/jobs/job-events.ts';
import type { JobKind } from '../runs/jobs/job-kind.ts';
import { jobObject, toJob } from '../runs/jobs/job-object.ts';
import { pipelineJobs } from '../runs/jobs/pipeline.ts';
import { responseJobs } from '../runs/jobs/responses.ts';
import { cursor, errorEnvelope, instant, limit } from '../schemas/common.ts';
import { dollars, runTermsFields, toRunTerms } from '../schemas/run-terms.ts';
import type { Routes } from './route.ts';

const KINDS: readonly JobKind[] = [chatJobs, responseJobs, batchJobs, pipelineJobs];
const ENDPOINTS = KINDS.map(({ endpoint }) => endpoint) as [string, ...string[]];

const newJob = z.strictObject({
  /** The endpoint whose work is to be done. */
  endpoint: z.enum(ENDPOINTS),
  /** What that endpoint takes. */
  body: z.record(z.string(), z.unknown()),
  ...runTermsFields,
  /** Its call may wait to go through the provider's batch API, at its price, together with others of its kind. */
  gather: z.boolean().default(false),
});

/** A result that is older than what is kept is left out. */
async function kept(result: Promise<object | undefined>): Promise<object | undefined> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'caller_not_found') return undefined;
    throw error;
  }
}

const params = z.object({ id: z.string() });
const failures = { '4xx': errorEnvelope, '5xx': errorEnvelope };

/** Work in the background. */
export const jobs: Routes = async (app, deps) => {
  const found = async (id: string, caller: AuthenticatedCaller): Promise<Run> => {
    const run = await deps.storedRuns.find(id, visibleTo(caller));
    if (!run) throw new HoldfastError('caller_not_found', `There is no job '${id}'.`);
    return run;
  };
  const kindOf = (run: Run): JobKind => KINDS.find(({ kind }) => kind === run.kind) as JobKind;
  const shown = async (id: string, caller: AuthenticatedCaller) => {
    const run = await found(id, caller);
    const kind = kindOf(run);
    return toJob(run, kind.endpoint, run.state === 'completed' ? await kept(kind.result(deps, run)) : undefined);
  };

  app.post(
    '/v1/jobs',
    {
      config: { needs: 'models:call' },
      schema: {
        summary: 'Submit a model call or a batch to be done in the background',
        description: 'Answers at once. `Idempotency-Key` makes sure that it is done once.',
        tags: ['jobs'],
        body: newJob,
        response: { 202: jobObject, ...failures },
      },
    },
    async (request, reply) => {
      const { endpoint, body, gather, ...given } = request.body;
      const kind = KINDS.find((one) => one.endpoint === endpoint) as JobKind;
      const { terms, webhook } = toRunTerms(deps, kind.kind, given);
      const { id, replayed } = await kind.submit(deps, {
        body,
        caller: request.caller,
        terms: { ...terms, gather },
        requestId: requestIdOf(request),
        idempotencyKey: idempotencyKeyOf(deps.bodies, request, 'jobs'),
      });
      reply.header('x-holdfast-run-id', id);
      if (replayed) reply.header('idempotent-replayed', 'true');
      const job = await shown(id, request.caller);
      return reply.status(202).send(webhook && !replayed ? { ...job, webhook } : job);
    },
  );

  app.get(
    '/v1/jobs',
    {
      config: { needs: 'models:call' },
      schema: {
        summary: 'Jobs, newest first',
        tags: ['jobs'],
        querystring: z.object({
          limit,
          cursor,
          state: z.enum(RUN_STATES).optional(),
          team: z.string().optional(),
          model: z.string().optional(),
          since: instant.optional(),
        }),
        response: { 200: z.object({ data: z.array(jobObject), next_cursor: z.string().nullable() }), ...failures },
      },
    },
    async ({ query, caller }) => {
      const runs = await deps.storedRuns.list({ ...query, limit: query.limit + 1, visible: visibleTo(caller) });
      const data = runs.slice(0, query.limit).map((run) => toJob(run, kindOf(run).endpoint));
      return { data, next_cursor: runs.length > query.limit ? (data.at(-1)?.id ?? null) : null };
    },
  );

  app.get(
    '/v1/jobs/:id',
    {
      config: { needs: 'models:call' },
      schema: { summary: 'A job, with its result', tags: ['jobs'], params, response: { 200: jobObject, ...failures } },
    },
    ({ params, caller }) => shown(params.id, caller),
  );

  app.get(
    '/v1/jobs/:id/events',
    {
      config: { needs: 'models:call' },
      schema: {
        summary: 'What a job does, as server-sent events',
        description: '`Last-Event-ID` or `starting_after` resumes after an event. Ends with the job’s last state.',
        tags: ['jobs'],
        params,
        querystring: z.object({ starting_after: z.coerce.number().int().min(0).optional() }),
      },
    },
    async (request, reply) => {
      const { id } = await found(request.params.id, request.caller);
      return sendJobEvents(deps, request, reply, { id, startingAfter: request.query.starting_after });
    },
  );

  const action = (
    name: string,
    summary: string,
    act: (run: Run, body: z.output<typeof resumption>) => Promise<void>,
  ): void => {
    app.post(
      `/v1/jobs/:id/${name}`,
      {
        config: { needs: 'models:call' },
        schema: {
          summary,
          tags: ['jobs'],
          params,
          body: resumption.nullish(),
          response: { 200: jobObject, ...failures },
        },
      },
      async ({ params, caller, body }) => {
        const run = await found(params.id, caller);
        if (isFinal(run.state)) throw new HoldfastError('caller_conflict', `The job is ${run.state} already.`);
        await act(run, body ?? {});
        return shown(run.id, caller);
      },
    );
  };
  action('cancel', 'Cancel a job; what it used is settled', (run) => cancelRun(deps, run));
  action('pause', 'Let nothing further of a job begin; a call under way is finished', ({ id }) => deps.runs.pause(id));
  action('resume', 'Go on with a job that was paused or stopped by a budget', async (run, { max_cost_usd }) => {
    const maxCostNanos = max_cost_usd === undefined ? undefined : fromDollars(max_cost_usd);
    const limits = maxCostNanos === undefined ? {} : { maxCostNanos };
    await deps.storedRuns.setLimits(run.id, limits);
    await deps.runs.resume(run.id, limits);
  });

  const again = (name: 'retry' | 'rerun', summary: string): void => {
    app.post(
      `/v1/jobs/:id/${name}`,
      {
        config: { needs: 'models:call' },
        schema: { summary, tags: ['jobs'], params, response: { 202: jobObject, ...failures } },
      },
      async (request, reply) => {
        const run = await found(request.params.id, request.caller);
        const idempotencyKey = idempotencyKeyOf(deps.bodies, request, `jobs/${run.id}/${name}`);
        const { id, replayed } = await submitAgain(deps, run, kindOf(run), {
          how: name,
          caller: request.caller,
          idempotencyKey,
        });
        if (replayed) reply.header('idempotent-replayed', 'true');
        return reply.status(202).send(await shown(id, request.caller));
      },
    );
  };
  again('retry', 'Do a failed or cancelled job again; steps that were finished are not paid again');
  again('rerun', 'Do an ended job again from its start');
};

const resumption = z.strictObject({
  /** The most all its calls may cost together from now on. */
  max_cost_usd: dollars.optional(),
});
