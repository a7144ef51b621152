import { z } from 'zod';
import { chatCompletionBody, withoutNulls } from '../../domain/chat-body.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { toChatCompletion } from '../../domain/openai-chat.ts';
import { toSeconds } from '../../domain/time.ts';
import { visibleTo } from '../auth/caller.ts';
import { keyOwnerOf } from '../runs/caller-ids.ts';
import { loadAnswer } from '../runs/follow.ts';
import { requiredModel } from '../runs/required-model.ts';
import { awaitResult, sendStream, setMetadataHeaders, startRun } from '../runs/serve.ts';
import { chatCompletion, pendingCompletion } from '../schemas/chat.ts';
import { errorEnvelope } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const SURFACE = 'chat.completions';

/** OpenAI's chat completions. */
export const chatCompletions: Routes = async (app, deps) => {
  const create = {
    summary: 'Create a chat completion',
    description: 'OpenAI’s shape in and out, plus `metadata`. With `stream: true` the answer is server-sent events.',
    tags: ['models'],
    body: chatCompletionBody,
  };
  app.post(
    '/v1/chat/completions',
    {
      config: { needs: 'models:call', surface: SURFACE },
      schema: create,
      preValidation: async (request) => {
        request.body = withoutNulls(request.body) as typeof request.body;
      },
    },
    async (request, reply) => {
      const { model, stream = false, stream_options, metadata = {}, ...body } = request.body;
      const incoming = {
        surface: SURFACE,
        idPrefix: 'chatcmpl' as const,
        model: requiredModel(model, request.caller),
        request: body,
        stream,
        metadata,
      };
      const { run, gone } = await startRun(deps, incoming, request, reply);
      if (stream) return sendStream(deps, run, stream_options?.include_usage ?? false, gone, reply);
      const { result, metadata: about } = await awaitResult(deps, run, gone);
      return setMetadataHeaders(reply, about).send(
        toChatCompletion({ id: run.id, created: toSeconds(run.acceptedAt) }, result, about),
      );
    },
  );

  const retrieve = {
    summary: 'Fetch a completion by its id, or by the x-request-id or Idempotency-Key it was sent with',
    description: 'Also after the connection broke or the gateway restarted. 202 while it runs.',
    tags: ['models'],
    params: z.object({ id: z.string() }),
    response: { 200: chatCompletion, 202: pendingCompletion, '4xx': errorEnvelope, '5xx': errorEnvelope },
  };
  app.get(
    '/v1/chat/completions/:id',
    { config: { needs: 'models:call' }, schema: retrieve },
    async ({ params, caller }, reply) => {
      const keyed = await deps.idempotency.find(keyOwnerOf(caller), SURFACE, params.id);
      const stored = await deps.requests.find(keyed ?? params.id, caller.owner, visibleTo(caller));
      if (!stored) throw new HoldfastError('caller_not_found', `There is no completion '${params.id}'.`);
      reply.header('x-holdfast-run-id', stored.runId);
      if (stored.answer) {
        const { result, metadata } = await loadAnswer(deps, stored.answer);
        const completion = toChatCompletion({ id: stored.id, created: toSeconds(stored.timestamp) }, result, metadata);
        return setMetadataHeaders(reply, metadata).send(completion as unknown as z.infer<typeof chatCompletion>);
      }
      if (stored.error) throw HoldfastError.from(stored.error);
      return reply.status(202).send({ id: stored.id, object: 'chat.completion', status: stored.state });
    },
  );
};
