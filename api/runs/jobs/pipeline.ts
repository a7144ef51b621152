import { pipelineBody } from '../../../domain/pipeline-request.ts';
import { validated } from '../../../domain/validation.ts';
import { PIPELINE_ENDPOINT, submitPipeline } from '../pipelines.ts';
import { workflowObjectOf } from '../workflow-object.ts';
import type { JobKind } from './job-kind.ts';

/** A pipeline as a job. Its `retry` keeps the steps that were done. */
export const pipelineJobs: JobKind = {
  kind: 'pipeline',
  endpoint: PIPELINE_ENDPOINT,

  submit: (deps, { body, ...job }) => submitPipeline(deps, { ...job, body: validated(pipelineBody, body, 'body') }),

  result: (deps, run) => workflowObjectOf(deps, run),
};
