import { z } from 'zod';
import { modelRequestSchema } from './chat.ts';

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

/** JSON `null` at the top level means "not set" in OpenAI's API. */
export function withoutNulls(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}
