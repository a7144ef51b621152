import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { isFinal } from '../../domain/run-state.ts';
import type { Batch } from '../../storage/postgres/batches.ts';
import { type AuthenticatedCaller, visibleTo } from '../auth/caller.ts';
import { cancelRun, defaultTerms } from '../runs/background.ts';
import { submitBatch } from '../runs/batches.ts';
import { idempotencyKeyOf, requestIdOf } from '../runs/caller-ids.ts';
import { batchObject, comparableId, newBatch, toBatchObject } from '../schemas/batch.ts';
import { errorEnvelope } from '../schemas/common.ts';
import type { Routes } from './route.ts';

/** `completion_window`. */
const WINDOW_MS = 24 * 3_600_000;
/** Batches let everything else go first. */
const PRIORITY = 5;

const params = z.object({ id: z.string() });
const failures = { '4xx': errorEnvelope, '5xx': errorEnvelope };

/** OpenAI's batches: many model calls from a file, answered in a file. */
export const batches: Routes = async (app, deps) => {
  const needs = 'models:call';
  const tags = ['batches'];
  const found = async (id: string, caller: AuthenticatedCaller): Promise<Batch> => {
    const batch = comparableId.safeParse(id).success && (await deps.batches.find(id, visibleTo(caller)));
    if (!batch) throw new HoldfastError('caller_not_found', `There is no batch '${id}'.`);
    return batch;
  };

  const create = {
    summary: 'Create a batch',
    description:
      'Every line of the input file is answered, or fails by itself, within 24 hours. `Idempotency-Key` makes sure that ' +
      'it is done once. It is a job too: `/v1/jobs/{id}` pauses, resumes, retries and reruns it.',
    tags,
    body: newBatch,
    response: { 200: batchObject, ...failures },
  };
  app.post('/v1/batches', { config: { needs }, schema: create }, async (request, reply) => {
    const { id, replayed } = await submitBatch(deps, {
      body: request.body,
      caller: request.caller,
      terms: { ...defaultTerms(deps), priority: PRIORITY, deadlineAt: new Date(Date.now() + WINDOW_MS) },
      requestId: requestIdOf(request),
      idempotencyKey: idempotencyKeyOf(deps.bodies, request, 'batches'),
    });
    reply.header('x-holdfast-run-id', id);
    if (replayed) reply.header('idempotent-replayed', 'true');
    return toBatchObject(await found(id, request.caller));
  });

  const list = {
    summary: 'Batches, newest first',
    tags,
    querystring: z.object({
      after: comparableId.optional(),
      limit: z.coerce.number().int().min(1).max(100).default(20),
    }),
    response: {
      200: z.object({
        object: z.literal('list'),
        data: z.array(batchObject),
        first_id: z.string().nullable(),
        last_id: z.string().nullable(),
        has_more: z.boolean(),
      }),
      ...failures,
    },
  };
  app.get('/v1/batches', { config: { needs }, schema: list }, async ({ query, caller }) => {
    const rows = await deps.batches.list({ ...query, visible: visibleTo(caller), limit: query.limit + 1 });
    const data = rows.slice(0, query.limit).map(toBatchObject);
    return {
      object: 'list' as const,
      data,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: rows.length > query.limit,
    };
  });

  const read = { summary: 'One batch', tags, params, response: { 200: batchObject, ...failures } };
  app.get('/v1/batches/:id', { config: { needs }, schema: read }, async ({ params, caller }) =>
    toBatchObject(await found(params.id, caller)),
  );

  const cancel = {
    summary: 'Cancel a batch',
    description: 'No further line begins; those under way get ten seconds. What was answered is in the output file.',
    tags,
    params,
    response: { 200: batchObject, ...failures },
  };
  app.post('/v1/batches/:id/cancel', { config: { needs }, schema: cancel }, async ({ params, caller }) => {
    const batch = await found(params.id, caller);
    if (isFinal(batch.state)) throw new HoldfastError('caller_conflict', `The batch is ${batch.state} already.`);
    await deps.batches.mark(batch.id, 'cancelling_at');
    if (!(await deps.runs.cancel(batch.id))) {
      const run = await deps.storedRuns.find(batch.id, undefined);
      if (run) await cancelRun(deps, run);
    }
    return toBatchObject(await found(params.id, caller));
  });
};
