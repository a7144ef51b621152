import { z } from 'zod';
import { messageSchema } from '../../domain/chat.ts';
import { modelName, requestMetadata, withoutNulls } from '../../domain/chat-body.ts';
import { awaitResult, setMetadataHeaders, startRun } from '../runs/serve.ts';
import type { Routes } from './route.ts';

const SURFACE = 'generate';
const DEFAULT_MAX_TOKENS = 4_096;

const generateBody = z.strictObject({
  messages: z.array(messageSchema).min(1),
  /** A configured provider; by default the gateway's default one. */
  provider: z.string().optional(),
  model: modelName.optional(),
  max_tokens: z.int().min(1).default(DEFAULT_MAX_TOKENS),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  stop: z.union([z.string(), z.array(z.string()).max(4)]).optional(),
  metadata: requestMetadata.optional(),
});

const generated = z.object({
  content: z.string(),
  model: z.string(),
  provider: z.string(),
  usage: z.object({ input_tokens: z.number(), output_tokens: z.number(), total_tokens: z.number() }),
  finish_reason: z.string(),
  latency_ms: z.number(),
});

/** The text endpoint of seed 001. */
export const generate: Routes = async (app, deps) => {
  const schema = {
    summary: 'Generate text with a provider of your choice',
    tags: ['models'],
    body: generateBody,
    response: { 200: generated },
  };
  app.post(
    '/v1/generate',
    {
      config: { needs: 'models:call', surface: SURFACE },
      schema,
      preValidation: async (request) => {
        request.body = withoutNulls(request.body) as typeof request.body;
      },
    },
    async (request, reply) => {
      const { model, provider, metadata = {}, ...body } = request.body;
      const incoming = {
        surface: SURFACE,
        idPrefix: 'gen' as const,
        model,
        provider,
        request: body,
        stream: false,
        metadata,
      };
      const { run, gone } = await startRun(deps, incoming, request, reply);
      const { result, metadata: about } = await awaitResult(deps, run, gone);
      const [choice] = result.choices;
      const { inputTokens, outputTokens } = result.usage;
      return setMetadataHeaders(reply, about).send({
        content: choice?.message.content ?? '',
        model: result.model,
        provider: deps.providers.get(about.provider)?.label ?? about.provider,
        usage: { input_tokens: inputTokens, output_tokens: outputTokens, total_tokens: inputTokens + outputTokens },
        finish_reason: choice?.native_finish_reason ?? 'stop',
        latency_ms: about.latency_ms,
      });
    },
  );
};
