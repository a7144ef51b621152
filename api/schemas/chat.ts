import { z } from 'zod';

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
