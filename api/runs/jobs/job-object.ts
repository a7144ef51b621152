import { z } from 'zod';
import { ERRORS } from '../../../domain/errors.ts';
import { toDollars } from '../../../domain/money.ts';
import { RUN_STATES } from '../../../domain/run-state.ts';
import { toSeconds } from '../../../domain/time.ts';
import type { Run } from '../../../storage/postgres/runs.ts';
import { shownWebhook } from '../../schemas/run-terms.ts';

const time = z.number().nullable();

/** A job as callers see it. Times are seconds since the epoch. */
export const jobObject = z.object({
  id: z.string(),
  object: z.literal('job'),
  endpoint: z.string(),
  status: z.enum(RUN_STATES),
  model: z.string().nullable(),
  team: z.string().nullable(),
  priority: z.number(),
  created_at: z.number(),
  started_at: time,
  completed_at: time,
  deadline: z.number(),
  max_cost_usd: z.number().nullable(),
  /** Of its settled calls. */
  cost_usd: z.number(),
  metadata: z.record(z.string(), z.string()),
  retry_of: z.string().nullable(),
  rerun_of: z.string().nullable(),
  error: z.object({ code: z.string(), message: z.string(), param: z.string().nullable() }).nullable(),
  /** Only in the answer to its creation. */
  webhook: shownWebhook.optional(),
  /** What the endpoint would have answered, once it has; only where one job is asked for. */
  result: z.record(z.string(), z.unknown()).optional(),
});

export const toJob = (run: Run, endpoint: string, result?: object): z.input<typeof jobObject> => ({
  id: run.id,
  object: 'job',
  endpoint,
  status: run.state,
  model: run.model,
  team: run.team,
  priority: run.priority,
  created_at: toSeconds(run.createdAt),
  started_at: run.startedAt && toSeconds(run.startedAt),
  completed_at: run.completedAt && toSeconds(run.completedAt),
  deadline: toSeconds(run.deadlineAt),
  max_cost_usd: run.maxCostNanos === null ? null : toDollars(run.maxCostNanos),
  cost_usd: toDollars(run.costNanos),
  metadata: run.metadata,
  retry_of: run.retryOf,
  rerun_of: run.rerunOf,
  error: run.error && {
    code: ERRORS[run.error.code].code,
    message: run.error.message,
    param: run.error.param ?? null,
  },
  ...(result && { result: result as Record<string, unknown> }),
});
