import { z } from 'zod';
import { chatCompletionBody, withoutNulls } from '../../domain/chat-body.ts';
import { toChatCompletion } from '../../domain/openai-chat.ts';
import { toSeconds } from '../../domain/time.ts';
import { defaultTerms } from '../runs/background.ts';
import { idempotencyKeyOf, requestIdOf } from '../runs/caller-ids.ts';
import { chatJobs } from '../runs/jobs/chat.ts';
import { jobObject, toJob } from '../runs/jobs/job-object.ts';
import { requiredModel } from '../runs/required-model.ts';
import { awaitResult, setMetadataHeaders, startRun } from '../runs/serve.ts';
import { chatCompletion } from '../schemas/chat.ts';
import { errorEnvelope } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const SURFACE = 'invoke';

const invocation = chatCompletionBody
  .omit({ stream: true, stream_options: true })
  .extend({
    messages: chatCompletionBody.shape.messages.optional(),
    /** Short for one message of the user. */
    prompt: z.string().min(1).optional(),
    /** Answers at once with a job. */
    background: z.boolean().default(false),
  })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    path: ['messages'],
    message: "either 'messages' or 'prompt' is needed",
  });

/** The unified call of seed 004: a chat completion, or a job that makes one. */
export const invoke: Routes = async (app, deps) => {
  app.post(
    '/llm/invoke',
    {
      config: { needs: 'models:call', surface: SURFACE },
      schema: {
        summary: 'Call a model, and wait for the answer or not',
        tags: ['models'],
        body: invocation,
        response: { 200: chatCompletion, 202: jobObject, '4xx': errorEnvelope, '5xx': errorEnvelope },
      },
      preValidation: async (request) => {
        request.body = withoutNulls(request.body) as typeof request.body;
      },
    },
    async (request, reply) => {
      const { caller } = request;
      const { prompt, background, model: named, metadata = {}, messages: given, ...parameters } = request.body;
      const model = requiredModel(named, caller);
      const messages = given ?? [{ role: 'user' as const, content: prompt ?? '' }];
      if (background) {
        const { id, replayed } = await chatJobs.submit(deps, {
          body: { ...parameters, model, messages, metadata },
          caller,
          terms: defaultTerms(deps),
          requestId: requestIdOf(request),
          idempotencyKey: idempotencyKeyOf(deps.bodies, request, SURFACE),
        });
        if (replayed) reply.header('idempotent-replayed', 'true');
        const run = await deps.storedRuns.find(id, undefined);
        if (run) return reply.status(202).header('x-holdfast-run-id', id).send(toJob(run, chatJobs.endpoint));
      }
      const incoming = {
        surface: SURFACE,
        idPrefix: 'chatcmpl' as const,
        model,
        request: { ...parameters, messages },
        stream: false,
        metadata,
      };
      const { run, gone } = await startRun(deps, incoming, request, reply);
      const { result, metadata: about } = await awaitResult(deps, run, gone);
      const completion = toChatCompletion({ id: run.id, created: toSeconds(run.acceptedAt) }, result, about);
      return setMetadataHeaders(reply, about).send(completion as unknown as z.infer<typeof chatCompletion>);
    },
  );
};
