import { type Caller, toCaller } from '../../domain/caller.ts';
import type { ModelRequest } from '../../domain/chat.ts';
import { HoldfastError, replays } from '../../domain/errors.ts';
import type { NanoDollars } from '../../domain/money.ts';
import { isFinal, type RunKind } from '../../domain/run-state.ts';
import { type PreparedCall, prepareCall } from '../../planning/prepare.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import type { IdempotencyKey } from '../../storage/postgres/idempotency.ts';
import type { Run } from '../../storage/postgres/runs.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import type { ApiDeps } from '../context.ts';
import { type SubmittedRun, submitOnce } from './submit-once.ts';

/** On what terms a run goes on in the background. */
export interface RunTerms {
  /** Temporal's priority key, 1 (first) to 5. */
  readonly priority: number;
  readonly deadlineAt: Date;
  readonly maxCostNanos: NanoDollars | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  /** Whether its call may wait to go through the provider's batch API, together with others. */
  readonly gather: boolean;
  /** Sealed: who is told about it. */
  readonly webhook: Buffer | undefined;
}

/**
 * The terms of a run whose caller names none.
 * @param kind A workflow may have to wait for people.
 */
export const defaultTerms = ({ config }: Pick<ApiDeps, 'config'>, kind?: RunKind): RunTerms => ({
  priority: DEFAULT_PRIORITY,
  deadlineAt: new Date(
    Date.now() + config.gateway[kind === 'pipeline' ? 'agents' : 'background'].deadline_hours * HOUR_MS,
  ),
  maxCostNanos: undefined,
  metadata: {},
  gather: false,
  webhook: undefined,
});

export const DEFAULT_PRIORITY = 3;
const HOUR_MS = 3_600_000;

/** What a run was asked to do, as it is kept for running it again. */
export interface RunInput {
  /** The endpoint that would take `body`, e.g. `/v1/chat/completions`. */
  readonly endpoint: string;
  readonly body: object;
  readonly caller: Caller;
  /** Of a pipeline: who started it, and those that it repeats. */
  readonly requesters?: readonly string[];
}

/** A model call to be made in the background. */
export interface Submission extends RunInput {
  readonly kind: RunKind;
  readonly id: string;
  readonly surface: string;
  readonly model: string | undefined;
  readonly request: ModelRequest;
  readonly stream: boolean;
  readonly requestId: string | undefined;
  readonly idempotencyKey: IdempotencyKey | undefined;
  /** Attribution by the caller; a key's own attributes win. */
  readonly attribution: Readonly<Record<string, unknown>>;
  readonly terms: RunTerms;
  /** What is stored together with the run. */
  readonly store?: (db: Sql) => Promise<void>;
  readonly retryOf?: string;
  readonly rerunOf?: string;
}

/** Accepts a model call that nobody waits for: committed in Postgres and acknowledged by Temporal. */
export async function submitRun(deps: ApiDeps, submission: Submission): Promise<SubmittedRun> {
  const { id, caller, idempotencyKey } = submission;
  // What has ended is answered again, even if nothing like it would be accepted any more.
  const holder = idempotencyKey && (await deps.idempotency.holder(idempotencyKey));
  if (holder !== undefined && (await hasEnded(deps, holder))) return { id: holder, replayed: true };
  const prepared = await prepareBackgroundCall(deps, submission);
  const { endpoint, body } = submission;
  const input = deps.bodies.seal({ endpoint, body, caller: toCaller(caller) } satisfies RunInput);
  return submitOnce(deps, {
    id,
    idempotencyKey,
    async insert(db, replaces) {
      if (replaces) await deps.requests.releaseRequestId(replaces, db);
      await deps.requests.insert(prepared.row, db);
      await deps.storedRuns.insert(db, {
        id,
        kind: submission.kind,
        owner: caller.owner,
        attribution: prepared.row.attribution,
        model: prepared.row.modelRequested,
        input,
        ...rowOf(submission),
      });
      await submission.store?.(db);
    },
    start: () => startOrClose(deps, id, () => deps.runs.startJob(jobOf(submission, prepared, id))),
    attach: (holder) => attachTo(deps, holder, () => deps.runs.startJob(jobOf(submission, prepared, holder))),
  });
}

/** What a run's row says of the terms it goes on. */
export const rowOf = ({ terms, retryOf, rerunOf }: Pick<Submission, 'terms' | 'retryOf' | 'rerunOf'>) => ({
  priority: terms.priority,
  metadata: terms.metadata,
  deadlineAt: terms.deadlineAt,
  maxCostNanos: terms.maxCostNanos ?? null,
  webhook: terms.webhook ?? null,
  retryOf: retryOf ?? null,
  rerunOf: rerunOf ?? null,
});

/** Throws for a deadline that has passed. */
export function requireTime({ deadlineAt }: RunTerms): void {
  if (deadlineAt.getTime() > Date.now()) return;
  throw new HoldfastError('caller_invalid_request', 'The deadline is over.', { param: 'deadline' });
}

/** Whether a run ended in a way that is not repeated under its `Idempotency-Key`. */
export async function hasEnded(deps: ApiDeps, id: string): Promise<boolean> {
  const run = await deps.storedRuns.find(id, undefined);
  return run !== undefined && isFinal(run.state) && !(run.error && !replays(run.error.code));
}

function prepareBackgroundCall(deps: ApiDeps, submission: Submission): Promise<PreparedCall> {
  const { id, terms, attribution, requestId = id } = submission;
  const deadlineAt = terms.deadlineAt.getTime();
  requireTime(terms);
  return prepareCall(deps, {
    ...submission,
    runId: id,
    requestId,
    metadata: attribution,
    resumable: true,
    background: true,
    gather: terms.gather,
    deadlineAt,
    maxCostNanos: terms.maxCostNanos,
    // Nobody waits, so it waits for its limits as long as it may, and lets those go first for whom somebody does.
    terms: { maxWaitMs: deadlineAt - Date.now(), priority: 'batch' },
  });
}

/** Starts a run, or closes it: a start that comes through after all finds it ended and calls nobody. */
export async function startOrClose(deps: ApiDeps, id: string, start: () => Promise<void>): Promise<void> {
  try {
    await start();
  } catch (error) {
    const info = error instanceof HoldfastError ? error.info : undefined;
    await closeRun(deps, id, 'failed', info).catch(() => {});
    throw error;
  }
}

/**
 * Whether the run that has an `Idempotency-Key` answers for another one, too: not if it failed without its caller's fault.
 * @param start Of a run that has not ended: whoever made it may have died before.
 */
export async function attachTo(deps: ApiDeps, id: string, start: () => Promise<void>): Promise<boolean> {
  const run = await deps.storedRuns.find(id, undefined);
  if (!run || (run.error && isFinal(run.state) && !replays(run.error.code))) return false;
  if (!isFinal(run.state)) await start();
  return true;
}

const jobOf = ({ caller, terms }: Submission, { row, call }: PreparedCall, id: string) => ({
  id,
  call: { ...call, requestId: id },
  team: row.attribution.team,
  keyName: caller.key?.name ?? caller.actor,
  modelRequested: row.modelRequested,
  priority: terms.priority,
  tenant: caller.owner,
});

/** Closes a run that no workflow will close. */
async function closeRun(
  deps: ApiDeps,
  id: string,
  state: 'failed' | 'cancelled',
  error: HoldfastError['info'] | undefined,
): Promise<void> {
  await settle(deps.db, { requestId: id, state, ...(error && { error }) });
  await deps.storedRuns.transition(id, { state, error });
  deps.journal.announce(id, true);
}

/** Milliseconds a cancelled run gets to settle before its caller is answered. */
const CANCEL_PATIENCE_MS = 5_000;

/** Cancels a run and waits for its end, if that comes soon. Throws `caller_conflict` for one that has ended. */
export async function cancelRun(deps: ApiDeps, { id, state }: Run): Promise<void> {
  if (isFinal(state)) throw new HoldfastError('caller_conflict', `The run is ${state} already.`);
  if (await deps.runs.cancel(id)) {
    deps.calls.abort(id);
    await untilEnded(deps, id, CANCEL_PATIENCE_MS);
    return;
  }
  await closeRun(deps, id, 'cancelled', { code: 'gateway_cancelled', message: 'The run was cancelled.' });
}

async function untilEnded(deps: ApiDeps, id: string, timeoutMs: number): Promise<void> {
  for await (const _ of deps.journal.subscribe(id, 0, AbortSignal.timeout(timeoutMs)));
}
