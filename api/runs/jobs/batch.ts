import { validated } from '../../../domain/validation.ts';
import { newBatch, toBatchObject } from '../../schemas/batch.ts';
import { submitBatch } from '../batches.ts';
import type { JobKind } from './job-kind.ts';

/** A batch as a job. Its `retry` keeps the lines that were answered. */
export const batchJobs: JobKind = {
  kind: 'batch',
  endpoint: '/v1/batches',

  submit: (deps, { body, ...job }) => submitBatch(deps, { ...job, body: validated(newBatch, body, 'body') }),

  async result(deps, { id }) {
    const batch = await deps.batches.find(id, undefined);
    return batch && toBatchObject(batch);
  },
};
