import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { withoutNulls } from '../../domain/chat-body.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { ResponseBody } from '../../domain/responses/body.ts';
import { responseBody } from '../../domain/responses/body.ts';
import { inputItemsOf } from '../../domain/responses/input-items.ts';
import { answeredResponse, failedResponse, pendingResponse } from '../../domain/responses/response-object.ts';
import { toResponseSeed } from '../../domain/responses/seed.ts';
import { rejectUnsupported } from '../../domain/responses/unsupported.ts';
import { isFinal } from '../../domain/run-state.ts';
import { toSeconds } from '../../domain/time.ts';
import type { StoredResponse } from '../../storage/postgres/responses.ts';
import type { AuthenticatedCaller } from '../auth/caller.ts';
import { visibleTo } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import { cancelRun, defaultTerms } from '../runs/background.ts';
import { idempotencyKeyOf, requestIdOf } from '../runs/caller-ids.ts';
import { loadAnswer } from '../runs/follow.ts';
import { seedOf, submitResponse } from '../runs/jobs/responses.ts';
import { requiredModel } from '../runs/required-model.ts';
import { incomingResponse, SURFACE } from '../runs/responses/incoming-response.ts';
import { currentResponse, liveEvents, ResponseRenderer, toEventText } from '../runs/responses/response-stream.ts';
import { awaitResult, sendStreamAfterFirst, setMetadataHeaders, startRun } from '../runs/serve.ts';
import { resumeAfter, sendEvents, withKeepalives } from '../runs/server-sent-events.ts';
import type { Routes } from './route.ts';

const params = z.object({ id: z.string() });

/** What a response shows, from its log. */
async function replay(
  deps: ApiDeps,
  stored: StoredResponse,
  after: number,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const renderer = new ResponseRenderer(deps, await seedOf(deps, stored));
  return sendEvents(reply, (signal) =>
    withKeepalives(deps.journal.subscribe(stored.id, 0, signal), signal, async ({ item }) => {
      const events = await renderer.render(item);
      // Who resumes beyond the end gets the end.
      const last = item.type === 'state' && isFinal(item.state) ? events.at(-1) : undefined;
      return events
        .filter((event) => event.sequence_number > after || event === last)
        .map(toEventText)
        .join('');
    }),
  );
}

/** A response as it is now. */
async function shown(deps: ApiDeps, stored: StoredResponse): Promise<object> {
  const seed = await seedOf(deps, stored);
  if (stored.background) return currentResponse(deps, seed);
  const request = await deps.requests.find(stored.id, '', undefined);
  if (request?.answer) {
    const { result, metadata } = await loadAnswer(deps, request.answer);
    return answeredResponse(seed, result, metadata);
  }
  return request?.error ? failedResponse(seed, request.error) : pendingResponse(seed, request?.state ?? 'running');
}

/** OpenAI's Responses API. */
export const responses: Routes = async (app, deps) => {
  const found = async (id: string, caller: AuthenticatedCaller): Promise<StoredResponse> => {
    const stored = await deps.responses.find(id, visibleTo(caller));
    if (!stored) throw new HoldfastError('caller_not_found', `There is no response '${id}'.`);
    return stored;
  };

  app.post(
    '/v1/responses',
    {
      config: { needs: 'models:call', surface: SURFACE },
      schema: {
        summary: 'Create a response',
        description:
          'OpenAI’s shape in and out, for every provider; the gateway’s own facts are in `holdfast`. With ' +
          '`background: true` it answers at once and goes on by itself.',
        tags: ['models'],
        body: responseBody,
      },
      preValidation: async (request) => {
        request.body = withoutNulls(request.body) as typeof request.body;
        rejectUnsupported(request.body);
      },
    },
    async (request, reply) => {
      const { caller } = request;
      const model = requiredModel(request.body.model, caller);
      const body = { ...request.body, model };
      if (body.background) {
        const { id, replayed } = await submitResponse(
          deps,
          {
            caller,
            terms: defaultTerms(deps),
            requestId: requestIdOf(request),
            idempotencyKey: idempotencyKeyOf(deps.bodies, request, SURFACE),
          },
          body,
        );
        reply.header('x-holdfast-run-id', id);
        if (replayed) reply.header('idempotent-replayed', 'true');
        const stored = await found(id, caller);
        return body.stream ? replay(deps, stored, -1, reply) : reply.send(await shown(deps, stored));
      }
      const { store, ...incoming } = await incomingResponse(deps, body, caller);
      const stream = body.stream ?? false;
      const { run, gone } = await startRun(
        deps,
        {
          surface: SURFACE,
          idPrefix: 'resp',
          ...incoming,
          stream,
          metadata: body.metadata ?? {},
          ...(body.store !== false && { store }),
        },
        request,
        reply,
      );
      const seed = toResponseSeed({ id: run.id, createdAt: toSeconds(run.acceptedAt), model }, body);
      if (stream) return sendStreamAfterFirst(reply, liveEvents(deps, run, seed, gone));
      const { result, metadata } = await awaitResult(deps, run, gone);
      return setMetadataHeaders(reply, metadata).send(answeredResponse(seed, result, metadata));
    },
  );

  app.get(
    '/v1/responses/:id',
    {
      config: { needs: 'models:call' },
      schema: {
        summary: 'Fetch a response, or go on reading its events',
        description:
          'With `stream=true` the events of a background response, from the first or after `starting_after` (or ' +
          '`Last-Event-ID`); they are the same whenever they are read.',
        tags: ['models'],
        params,
        querystring: z.object({
          stream: z.stringbool().optional(),
          starting_after: z.coerce.number().int().min(0).optional(),
          include: z.unknown().optional(),
          'include[]': z.unknown().optional(),
          include_obfuscation: z.stringbool().optional(),
        }),
      },
    },
    async ({ params, query, caller, headers }, reply) => {
      const stored = await found(params.id, caller);
      if (!query.stream) return shown(deps, stored);
      if (!stored.background) {
        throw new HoldfastError('caller_invalid_request', 'Only background responses can be streamed again.', {
          param: 'stream',
        });
      }
      return replay(deps, stored, resumeAfter(headers, query.starting_after), reply);
    },
  );

  app.post(
    '/v1/responses/:id/cancel',
    {
      config: { needs: 'models:call' },
      schema: { summary: 'Cancel a background response', tags: ['models'], params },
    },
    async ({ params, caller }) => {
      const stored = await found(params.id, caller);
      const run = stored.background ? await deps.storedRuns.find(stored.id, undefined) : undefined;
      if (!run) throw new HoldfastError('caller_invalid_request', 'Only background responses can be cancelled.');
      if (run.state !== 'cancelled') await cancelRun(deps, run);
      return shown(deps, stored);
    },
  );

  app.delete(
    '/v1/responses/:id',
    {
      config: { needs: 'models:call' },
      schema: {
        summary: 'Delete a response; one that runs is cancelled',
        tags: ['models'],
        params,
        response: { 200: z.object({ id: z.string(), object: z.literal('response'), deleted: z.literal(true) }) },
      },
    },
    async ({ params, caller }) => {
      const { id, background } = await found(params.id, caller);
      const run = background ? await deps.storedRuns.find(id, undefined) : undefined;
      if (run && !isFinal(run.state)) await cancelRun(deps, run);
      await deps.responses.remove(id);
      return { id, object: 'response' as const, deleted: true as const };
    },
  );

  app.get(
    '/v1/responses/:id/input_items',
    {
      config: { needs: 'models:call' },
      schema: {
        summary: 'What a response was asked, item by item',
        tags: ['models'],
        params,
        querystring: z.object({
          limit: z.coerce.number().int().min(1).max(100).default(20),
          order: z.enum(['asc', 'desc']).default('desc'),
          after: z.string().optional(),
          include: z.unknown().optional(),
          'include[]': z.unknown().optional(),
        }),
      },
    },
    async ({ params, query: { limit, order, after }, caller }) => {
      const { id, inputRef } = await found(params.id, caller);
      const body = await deps.bodies.get<ResponseBody>(inputRef);
      const items = body ? [...inputItemsOf(body.input, id)] : [];
      if (order === 'desc') items.reverse();
      const start = after === undefined ? 0 : items.findIndex((item) => item.id === after) + 1;
      if (after !== undefined && start === 0) {
        throw new HoldfastError('caller_not_found', `There is no input item '${after}'.`, { param: 'after' });
      }
      const data = items.slice(start, start + limit);
      const ends = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
      return { object: 'list', data, ...ends, has_more: start + limit < items.length };
    },
  );
};
