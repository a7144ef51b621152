import { z } from 'zod';
import { BATCH_STATUSES, batchStatusOf } from '../../domain/batch.ts';
import { BATCH_ENDPOINTS, type BatchEndpointName } from '../../domain/batch-endpoints.ts';
import { KEEP_SECONDS } from '../../domain/files.ts';
import type { Batch } from '../../storage/postgres/batches.ts';

/** OpenAI's limit. */
const MAX_METADATA_PAIRS = 16;

const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= MAX_METADATA_PAIRS, `must have at most ${MAX_METADATA_PAIRS} pairs`);

/** An id as it may be compared in the database: text there holds no NUL. */
export const comparableId = z.string().regex(/^[\w-]+$/, 'must be an id');

export const newBatch = z.strictObject({
  /** A file uploaded with the purpose `batch`: one request a line. */
  input_file_id: comparableId,
  /** The endpoint of all lines. */
  endpoint: z.enum(Object.keys(BATCH_ENDPOINTS) as [BatchEndpointName, ...BatchEndpointName[]]),
  completion_window: z.literal('24h'),
  metadata: metadata.nullish(),
  /** When the output and error file expire, from when they are written; by default after 30 days. */
  output_expires_after: z
    .strictObject({
      anchor: z.literal('created_at'),
      seconds: z.int().min(KEEP_SECONDS.min).max(KEEP_SECONDS.max),
    })
    .nullish(),
});

export type NewBatchBody = z.output<typeof newBatch>;

const time = z.number().optional();

/** A batch as OpenAI shows it. Times are seconds since the epoch. */
export const batchObject = z.object({
  id: z.string(),
  object: z.literal('batch'),
  endpoint: z.string(),
  errors: z
    .object({
      object: z.literal('list'),
      data: z.array(
        z.object({
          code: z.string(),
          message: z.string(),
          line: z.number().nullable(),
          param: z.string().nullable(),
        }),
      ),
    })
    .optional(),
  input_file_id: z.string(),
  completion_window: z.string(),
  status: z.enum(BATCH_STATUSES),
  output_file_id: z.string().optional(),
  error_file_id: z.string().optional(),
  created_at: z.number(),
  in_progress_at: time,
  expires_at: time,
  finalizing_at: time,
  completed_at: time,
  failed_at: time,
  expired_at: time,
  cancelling_at: time,
  cancelled_at: time,
  request_counts: z.object({ total: z.number(), completed: z.number(), failed: z.number() }),
  usage: z
    .object({
      input_tokens: z.number(),
      input_tokens_details: z.object({ cached_tokens: z.number() }),
      output_tokens: z.number(),
      output_tokens_details: z.object({ reasoning_tokens: z.number() }),
      total_tokens: z.number(),
    })
    .optional(),
  metadata: z.record(z.string(), z.string()).nullable(),
});

export function toBatchObject(batch: Batch): z.infer<typeof batchObject> {
  const status = batchStatusOf(batch);
  const { usage, completedAt } = batch;
  // Files are named when the first line goes in, and there for others when the batch has ended.
  const { outputFileId, errorFileId } = completedAt ? batch : { outputFileId: null, errorFileId: null };
  return {
    id: batch.id,
    object: 'batch',
    endpoint: batch.endpoint,
    ...(batch.errors.length > 0 && { errors: { object: 'list' as const, data: [...batch.errors] } }),
    input_file_id: batch.inputFileId,
    completion_window: '24h',
    status,
    ...(outputFileId && { output_file_id: outputFileId }),
    ...(errorFileId && { error_file_id: errorFileId }),
    created_at: toSeconds(batch.createdAt),
    expires_at: toSeconds(batch.deadlineAt),
    ...at('in_progress_at', batch.inProgressAt),
    ...at('finalizing_at', batch.finalizingAt),
    ...at('cancelling_at', batch.cancellingAt),
    ...(isEnd(status) && at(`${status}_at`, completedAt)),
    request_counts: { total: batch.total, completed: batch.completed, failed: batch.failed },
    ...(usage && {
      usage: {
        input_tokens: usage.input,
        input_tokens_details: { cached_tokens: usage.cached },
        output_tokens: usage.output,
        output_tokens_details: { reasoning_tokens: usage.reasoning },
        total_tokens: usage.input + usage.output,
      },
    }),
    metadata: Object.keys(batch.metadata).length > 0 ? { ...batch.metadata } : null,
  };
}

const ENDS = ['completed', 'failed', 'expired', 'cancelled'] as const;
const isEnd = (status: string): status is (typeof ENDS)[number] => (ENDS as readonly string[]).includes(status);

const at = (name: string, date: Date | null) => (date ? { [name]: toSeconds(date) } : {});

const toSeconds = (date: Date): number => Math.floor(date.getTime() / 1000);
