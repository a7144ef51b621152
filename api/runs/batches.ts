import { toCaller } from '../../domain/caller.ts';
import { HoldfastError, replays } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import { isFinal } from '../../domain/run-state.ts';
import { attribute } from '../../planning/plan.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { ownOf } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import type { NewBatchBody } from '../schemas/batch.ts';
import { type RunInput, requireTime, rowOf, startOrClose } from './background.ts';
import type { NewJob } from './jobs/job-kind.ts';
import { type SubmittedRun, submitOnce } from './submit-once.ts';

/** A batch on its way in. */
export interface BatchSubmission extends Omit<NewJob, 'body'> {
  readonly body: NewBatchBody;
}

/** Accepts a batch: committed in Postgres and acknowledged by Temporal. Throws when its input file is not there. */
export async function submitBatch(deps: ApiDeps, submission: BatchSubmission): Promise<SubmittedRun> {
  const { idempotencyKey, terms } = submission;
  requireTime(terms);
  await requireInput(deps, submission);
  const id = newId('batch');
  return submitOnce(deps, {
    id,
    idempotencyKey,
    insert: (db) => insertBatch(deps, db, id, submission),
    start: () => startOrClose(deps, id, () => deps.runs.startBatch(startOf(deps, id, submission))),
    async attach(holder) {
      const earlier = await deps.batches.find(holder, undefined);
      // One that ended is asked for again by `retry`: what it answered is worth something.
      const unread = earlier?.error && earlier.total === 0 && isFinal(earlier.state) && !replays(earlier.error.code);
      if (!earlier || unread) return false;
      if (!isFinal(earlier.state)) {
        const { deadlineAt } = earlier;
        await deps.runs.startBatch(startOf(deps, holder, { ...submission, terms: { ...terms, deadlineAt } }));
      }
      return true;
    },
  });
}

async function requireInput(deps: ApiDeps, { body, caller }: BatchSubmission): Promise<void> {
  const file = await deps.files.get(body.input_file_id, ownOf(caller));
  const message = file
    ? file.purpose !== 'batch' && `The file '${file.id}' was uploaded for '${file.purpose}', not for 'batch'.`
    : `There is no file '${body.input_file_id}'.`;
  if (message) throw new HoldfastError('caller_invalid_request', message, { param: 'input_file_id' });
}

async function insertBatch(deps: ApiDeps, db: Sql, id: string, submission: BatchSubmission): Promise<void> {
  const { body, caller, terms } = submission;
  const metadata = { ...body.metadata, ...terms.metadata };
  const input: RunInput = { endpoint: '/v1/batches', body, caller: toCaller(caller) };
  await deps.storedRuns.insert(db, {
    id,
    kind: 'batch',
    owner: caller.owner,
    attribution: attribute({ caller, metadata }),
    model: null,
    input: deps.bodies.seal(input),
    ...rowOf(submission),
    metadata,
  });
  await deps.batches.insert(db, {
    id,
    endpoint: body.endpoint,
    inputFileId: body.input_file_id,
    outputKeepSeconds: body.output_expires_after?.seconds ?? null,
  });
}

const startOf = (deps: ApiDeps, batchId: string, { body, caller, terms }: BatchSubmission) => ({
  input: {
    batchId,
    deadlineAt: terms.deadlineAt.getTime(),
    native:
      deps.config.gateway.background.native_batches && [...deps.providers.values()].some(({ batches }) => batches),
    ...(terms.maxCostNanos !== undefined && { maxCostNanos: terms.maxCostNanos }),
  },
  endpoint: body.endpoint,
  team: caller.team,
  keyName: caller.key?.name ?? caller.actor,
  priority: terms.priority,
  tenant: caller.owner,
});
