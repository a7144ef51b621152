import { z } from 'zod';
import { modelRequestSchema } from '../chat.ts';
import { inputItem } from './items.ts';
import { responseTool, responseToolChoice } from './tools.ts';

const { temperature, top_p, top_logprobs, reasoning_effort } = modelRequestSchema.shape;

/** OpenAI's limits. */
const MAX_METADATA_PAIRS = 16;
const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= MAX_METADATA_PAIRS, `must have at most ${MAX_METADATA_PAIRS} pairs`);

const format = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    name: z.string().min(1).max(64),
    schema: z.record(z.string(), z.unknown()),
    description: z.string().nullish(),
    strict: z.boolean().nullish(),
  }),
]);

const detailOfSummary = z.enum(['auto', 'concise', 'detailed']).nullish();

/** What may be included. Most are parts of items that the gateway never gives, or always gives in full. */
const includable = z.enum([
  'message.output_text.logprobs',
  'message.input_image.image_url',
  // Reasoning is given in the clear and taken back so; there is nothing to encrypt.
  'reasoning.encrypted_content',
  'file_search_call.results',
  'web_search_call.results',
  'web_search_call.action.sources',
  'computer_call_output.output.image_url',
  'code_interpreter_call.outputs',
]);

/**
 * The body of `POST /v1/responses`. A top-level `null` means "not set" and has to be taken out before, and
 * `rejectUnsupported` has the better words for what OpenAI knows and the gateway does not.
 */
export const responseBody = z
  .strictObject({
    /** An alias, `provider/model`, or a model of the catalogue; by default the key's default model. */
    model: z.string().min(1).max(200).optional(),
    input: z.union([z.string(), z.array(inputItem)]),
    instructions: z.string().optional(),
    previous_response_id: z.string().min(1).optional(),
    tools: z.array(responseTool).optional(),
    tool_choice: responseToolChoice.optional(),
    parallel_tool_calls: z.boolean().optional(),
    /** Limits the calls of built-in tools, so nothing here. */
    max_tool_calls: z.int().min(1).optional(),
    max_output_tokens: z.int().min(1).optional(),
    temperature,
    top_p,
    top_logprobs,
    text: z
      .strictObject({ format: format.nullish(), verbosity: z.enum(['low', 'medium', 'high']).nullish() })
      .optional(),
    reasoning: z
      .strictObject({
        effort: reasoning_effort.nullable(),
        summary: detailOfSummary,
        /** The former name of `summary`. */
        generate_summary: detailOfSummary,
      })
      .optional(),
    include: z.array(includable).optional(),
    truncation: z.enum(['auto', 'disabled']).optional(),
    store: z.boolean().optional(),
    background: z.boolean().optional(),
    stream: z.boolean().optional(),
    stream_options: z.strictObject({ include_obfuscation: z.boolean().nullish() }).optional(),
    metadata: metadata.optional(),
    user: z.string().optional(),
    safety_identifier: z.string().optional(),
    prompt_cache_key: z.string().optional(),
    prompt_cache_retention: z.enum(['in_memory', '24h']).optional(),
    service_tier: z.enum(['auto', 'default', 'flex', 'scale', 'priority']).optional(),
  })
  .refine(({ background, store }) => !(background && store === false), {
    path: ['background'],
    message: "a background response is fetched later, so 'store' must not be false",
  });

export type ResponseBody = z.infer<typeof responseBody>;
