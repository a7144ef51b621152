import { z } from 'zod';
import { stepBody } from './pipeline-body.ts';

const MAX_INPUT = 1_000_000;

/** What a pipeline is asked to do, without the terms on which it goes on. */
export const pipelineFields = {
  workflow: stepBody,
  /** What the first step is given. Anything but text is written as JSON. */
  input: z
    .union([z.string(), z.record(z.string(), z.unknown()), z.array(z.unknown())])
    .transform((value) => (typeof value === 'string' ? value : JSON.stringify(value)))
    .pipe(z.string().max(MAX_INPUT)),
  /** Model calls, tool calls and calls of remote agents together; the run stops there until that is raised. */
  max_steps: z.int().min(1).max(100_000).optional(),
  /** Seconds from its start; the run stops there until that is raised. */
  max_duration: z
    .number()
    .positive()
    .max(30 * 86_400)
    .optional(),
};

export const pipelineBody = z.strictObject(pipelineFields);

export type PipelineBody = z.output<typeof pipelineBody>;
