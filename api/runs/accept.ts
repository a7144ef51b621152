import type { CallAhead } from '../../calls/calls.ts';
import type { ModelRequest } from '../../domain/chat.ts';
import { HoldfastError, replays } from '../../domain/errors.ts';
import { type IdPrefix, newId } from '../../domain/ids.ts';
import { targetCallOf } from '../../domain/model-call.ts';
import type { AdmissionTerms, RateLimit } from '../../domain/rate-limit.ts';
import type { StreamItem } from '../../domain/stream-item.ts';
import { type PreparedCall, prepareCall } from '../../planning/prepare.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import type { IdempotencyKey } from '../../storage/postgres/idempotency.ts';
import type { StoredRequest } from '../../storage/postgres/requests.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import type { AuthenticatedCaller } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import { loadAnswer } from './follow.ts';
import { sharedKeyOf } from './sharing.ts';

/** A validated request on its way in. */
export interface IncomingRequest {
  /** `chat.completions`, `generate` or `responses`. */
  readonly surface: string;
  readonly idPrefix: IdPrefix;
  readonly model: string | undefined;
  readonly provider?: string | undefined;
  readonly request: ModelRequest;
  readonly stream: boolean;
  readonly caller: AuthenticatedCaller;
  /** `x-request-id`, if the caller sent one. */
  readonly requestId: string | undefined;
  readonly idempotencyKey: IdempotencyKey | undefined;
  /** Whether identical requests under way may share one call. */
  readonly share: boolean;
  /** Attribution by the caller; a key's own attributes win. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly terms: AdmissionTerms;
  /** What is stored together with the request. */
  readonly store?: (db: Sql, id: string, acceptedAt: Date) => Promise<void>;
  /** Aborts when the caller hung up, if that ends the request. */
  readonly gone?: AbortSignal | undefined;
}

/** A request the gateway has taken responsibility for: committed in Postgres and acknowledged by Temporal. */
export interface AcceptedRun {
  readonly id: string;
  readonly requestId: string;
  readonly acceptedAt: Date;
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  /** The limits it has to fit into. */
  readonly limits: readonly RateLimit[];
  /** `shared`: identical requests under way get one answer. `replayed`: the answer is that of an earlier request. */
  readonly origin: 'own' | 'shared' | 'replayed';
  /** How it ended, if it had when it was asked for. */
  readonly outcome?: Extract<StreamItem, { type: 'completed' | 'failed' }>;
}

/** Plans, stores and starts a request, or finds the one that answers it. Throws when it cannot be accepted. */
export async function acceptRun(deps: ApiDeps, incoming: IncomingRequest): Promise<AcceptedRun> {
  const id = newId(incoming.idPrefix);
  const deadlineAt = Date.now() + deps.config.gateway.server.request_deadline * 1000;
  const ended = incoming.idempotencyKey && (await replay(deps, incoming.idempotencyKey, incoming, deadlineAt));
  if (ended) return ended;
  const prepared = await prepareCall(deps, {
    ...incoming,
    checkedByCall: true,
    id,
    runId: id,
    requestId: incoming.requestId ?? id,
    resumable: incoming.requestId !== undefined || incoming.idempotencyKey !== undefined,
    deadlineAt,
  });
  const { acceptedAt } = prepared.row;
  const about = { deadlineAt, limits: prepared.call.admission.limits, acceptedAt };
  if (incoming.idempotencyKey) return acceptOnce(deps, incoming, incoming.idempotencyKey, prepared, about);
  if (incoming.share) return acceptShared(deps, incoming, prepared, about);
  // Nobody else can have this request, so its first call is claimed with it, in one statement.
  const ahead = await prepareAhead(deps, prepared);
  const begins = await insert(deps, incoming, prepared, ahead, acceptedAt).catch(async (error: unknown) => {
    await ahead?.drop();
    throw error;
  });
  // The first request of a month has no counters yet.
  await startCall(deps, incoming, prepared, begins ? ahead : await claimed(deps, ahead));
  return { ...about, id, requestId: prepared.row.requestId, origin: 'own' };
}

type About = Pick<AcceptedRun, 'deadlineAt' | 'limits' | 'acceptedAt'>;

/** Stores the request, with the claim of its first call if that can be made ahead; returns whether it can. */
async function insert(
  { db, requests, admissions }: ApiDeps,
  { store }: IncomingRequest,
  { row }: PreparedCall,
  ahead: CallAhead | undefined,
  acceptedAt: Date,
): Promise<boolean> {
  const insertInto = async (sql: Sql): Promise<boolean> => {
    if (ahead) return admissions.insert(row, ahead.first, sql);
    await requests.insert(row, sql);
    return false;
  };
  if (!store) return insertInto(db);
  return db.transaction().execute(async (transaction) => {
    const begins = await insertInto(transaction);
    await store(transaction, row.id, acceptedAt);
    return begins;
  });
}

/** What the first call takes, if this process may make it before the workflow is there. */
async function prepareAhead({ config, calls, runs }: ApiDeps, { call }: PreparedCall): Promise<CallAhead | undefined> {
  // A call whose start is not acknowledged is paid for nothing.
  const worthIt = config.gateway.speculation.enabled && runs.answering;
  return worthIt ? calls.prepareAhead(targetCallOf(call, 0)) : undefined;
}

/** The call, if it can be claimed for a request that is stored already: only who stored it may ask. */
async function claimed({ admissions }: ApiDeps, ahead: CallAhead | undefined): Promise<CallAhead | undefined> {
  return ahead && (await admissions.admit(ahead.first)).state === 'claimed' ? ahead : undefined;
}

/** Makes a request, or joins an identical one under way. */
async function acceptShared(
  deps: ApiDeps,
  incoming: IncomingRequest,
  prepared: PreparedCall,
  about: About,
): Promise<AcceptedRun> {
  const { row } = prepared;
  const sharedKey = sharedKeyOf(deps.bodies, prepared);
  if (!(await deps.requests.insertShared(row, sharedKey))) {
    const joined = await deps.requests.join(incoming.caller.owner, sharedKey);
    if (joined !== undefined) {
      // Whoever made it may have died before the workflow was started; one that runs stays as it is.
      await deps.runs.start(startOf(incoming, prepared, joined));
      return { ...about, id: joined, requestId: joined, origin: 'shared' };
    }
    await deps.requests.insert(row);
  }
  await startCall(deps, incoming, prepared, await claimed(deps, await prepareAhead(deps, prepared)));
  return { ...about, id: row.id, requestId: row.requestId, origin: 'own' };
}

/** A request under an `Idempotency-Key`: the first is made, those after it get its answer. */
async function acceptOnce(
  deps: ApiDeps,
  incoming: IncomingRequest,
  key: IdempotencyKey,
  prepared: PreparedCall,
  about: About,
): Promise<AcceptedRun> {
  const { row } = prepared;
  const { caller } = incoming;
  for (let replaces: string | undefined; ; ) {
    const id = await deps.idempotency.once(key, row.id, replaces, async (transaction) => {
      if (replaces) await deps.requests.releaseRequestId(replaces, transaction);
      await deps.requests.insert(row, transaction);
      await incoming.store?.(transaction, row.id, about.acceptedAt);
    });
    if (id === row.id) {
      await startCall(deps, incoming, prepared, await claimed(deps, await prepareAhead(deps, prepared)));
      return { ...about, id, requestId: row.requestId, origin: 'own' };
    }
    const earlier = await deps.requests.find(id, caller.owner, undefined);
    if (!earlier || (earlier.error && !replays(earlier.error.code))) {
      replaces = id;
      continue;
    }
    const found = foundAs(earlier, about);
    const outcome = await outcomeOf(deps, earlier);
    if (outcome) return { ...found, outcome };
    // Whoever made it may have died before the workflow was started; one that runs stays as it is.
    await deps.runs.start(startOf(incoming, prepared, id));
    return found;
  }
}

const foundAs = ({ id, requestId, timestamp }: StoredRequest, about: About) =>
  ({ ...about, id, requestId, acceptedAt: timestamp, origin: 'replayed' }) as const;

/** How a request ended that is not made again under its `Idempotency-Key`; undefined while it runs. */
async function outcomeOf(deps: ApiDeps, { error, answer }: StoredRequest): Promise<AcceptedRun['outcome']> {
  if (error) return replays(error.code) ? { type: 'failed', error } : undefined;
  return answer ? loadAnswer(deps, answer) : undefined;
}

/** The request that has the key and has ended: it is answered again, even if nothing like it would be accepted any more. */
async function replay(
  deps: ApiDeps,
  key: IdempotencyKey,
  { caller }: IncomingRequest,
  deadlineAt: number,
): Promise<AcceptedRun | undefined> {
  const holder = await deps.idempotency.holder(key);
  const earlier = holder === undefined ? undefined : await deps.requests.find(holder, caller.owner, undefined);
  const outcome = earlier && (await outcomeOf(deps, earlier));
  return outcome && { ...foundAs(earlier, { deadlineAt, limits: [], acceptedAt: earlier.timestamp }), outcome };
}

/** Starts the workflow, and meanwhile makes the first call if it is claimed. */
async function startCall(
  deps: ApiDeps,
  incoming: IncomingRequest,
  prepared: PreparedCall,
  ahead: CallAhead | undefined,
): Promise<void> {
  const begun = ahead?.begin(incoming.gone);
  try {
    await deps.runs.start(startOf(incoming, prepared, prepared.row.id));
  } catch (error) {
    await begun?.abort();
    // A start that comes through after all finds the request settled and calls nobody.
    const info = error instanceof HoldfastError ? error.info : undefined;
    const ending = { requestId: prepared.row.id, state: 'failed', ...(info && { error: info }) } as const;
    await settle(deps.db, ending).catch(() => {});
    throw error;
  }
}

const startOf = ({ caller }: Pick<IncomingRequest, 'caller'>, { row, call }: PreparedCall, id: string) => ({
  id,
  call: { ...call, requestId: id },
  team: row.attribution.team,
  keyName: caller.key?.name ?? caller.actor,
  modelRequested: row.modelRequested,
});
