import { z } from 'zod';
import { modelRequestSchema } from '../../domain/chat.ts';

const MAX_METADATA_CHARACTERS = 16_384;

/** Attribution and notes; kept with the ledger row. */
export const requestMetadata = z
  .record(z.string().max(64), z.unknown())
  .refine((metadata) => JSON.stringify(metadata).length <= MAX_METADATA_CHARACTERS, 'must be at most 16 KB of JSON');

/** Search attributes of runs hold at most 255 characters. */
export const modelName = z.string().min(1).max(200);

export const chatCompletionBody = modelRequestSchema.extend({
  /** An alias, `provider/model`, or a model of the catalogue; by default the key's default model. */
  model: modelName.optional(),
  stream: z.boolean().optional(),
  stream_options: z.looseObject({ include_usage: z.boolean().optional() }).optional(),
  metadata: requestMetadata.optional(),
});

const usage = z.object({
  prompt_tokens: z.number(),
  completion_tokens: z.number(),
  total_tokens: z.number(),
  prompt_tokens_details: z.object({ cached_tokens: z.number(), audio_tokens: z.number().optional() }),
  completion_tokens_details: z.object({ reasoning_tokens: z.number(), audio_tokens: z.number().optional() }),
});

export const responseMetadata = z.object({
  provider: z.string(),
  region: z.string().optional(),
  latency_ms: z.number(),
  cost_usd: z.number(),
  attempts: z.number(),
  fallback_from: z.string().optional(),
});

export const chatCompletion = z.looseObject({
  id: z.string(),
  object: z.literal('chat.completion'),
  created: z.number(),
  model: z.string(),
  choices: z.array(
    z.looseObject({
      index: z.number(),
      message: z.looseObject({ role: z.literal('assistant'), content: z.string().nullable() }),
      finish_reason: z.enum(['stop', 'length', 'tool_calls', 'content_filter']),
    }),
  ),
  usage,
  metadata: responseMetadata,
});

/** A stored completion that is not there yet. */
export const pendingCompletion = z.object({
  id: z.string(),
  object: z.literal('chat.completion'),
  status: z.string(),
});

/** JSON `null` at the top level means "not set" in OpenAI's API. */
export function withoutNulls(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}
