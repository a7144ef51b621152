import type { z } from 'zod';
import type { Caller } from '../../../domain/caller.ts';
import type { RunKind } from '../../../domain/run-state.ts';
import { validated } from '../../../domain/validation.ts';
import type { IdempotencyKey } from '../../../storage/postgres/idempotency.ts';
import type { Run } from '../../../storage/postgres/runs.ts';
import type { ApiDeps } from '../../context.ts';
import type { RunTerms } from '../background.ts';
import type { SubmittedRun } from '../submit-once.ts';

/** A job on its way in. */
export interface NewJob {
  /** What its endpoint would take. */
  readonly body: unknown;
  readonly caller: Caller;
  readonly terms: RunTerms;
  readonly requestId: string | undefined;
  readonly idempotencyKey: IdempotencyKey | undefined;
  readonly retryOf?: string;
  readonly rerunOf?: string;
  /** Of a pipeline that is done again: who asked for it before. */
  readonly requesters?: readonly string[];
  /** Of a pipeline that is done again: the step it begins at. @default the first that is not done */
  readonly from?: string | undefined;
}

/** An endpoint whose work can be done as a job. */
export interface JobKind {
  readonly kind: RunKind;
  readonly endpoint: string;
  /** Throws what the endpoint would answer to that body; nothing runs then. */
  submit(deps: ApiDeps, job: NewJob): Promise<SubmittedRun>;
  /** What the endpoint would have answered; undefined while there is nothing. */
  result(deps: ApiDeps, run: Run): Promise<object | undefined>;
}

/** The body of a job as its endpoint takes it. Throws `caller_invalid_request` with the field within the job. */
export const parseBody = <T>(schema: z.ZodType<T>, body: unknown): T => validated(schema, body, 'body');
