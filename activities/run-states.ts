import { toDollars } from '../domain/money.ts';
import { isFinal } from '../domain/run-state.ts';
import { type RunWebhook, STATE_EVENTS } from '../domain/run-webhook.ts';
import type { WebhookEvent } from '../domain/webhook.ts';
import type { Cipher } from '../storage/cipher.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Run, Runs, Transition } from '../storage/postgres/runs.ts';
import { closeParts } from '../storage/postgres/sweep.ts';
import type { Webhooks } from '../storage/postgres/webhooks.ts';
import type { JournalledStreamLog } from '../storage/streams/journalled.ts';

export interface RunStateDeps {
  readonly db: Sql;
  readonly runs: Runs;
  readonly journal: JournalledStreamLog;
  readonly webhooks: Webhooks;
  readonly cipher: Cipher;
}

/**
 * Brings a run into a state and its readers the news, and records what its webhook is told. Idempotent: repeated after a
 * crash between its steps, it completes them. Returns the deliveries to announce.
 */
export function createRecordState(deps: RunStateDeps) {
  const { db, runs, journal } = deps;
  const tell = createTellWebhook(deps);
  return async (runId: string, transition: Transition): Promise<readonly string[]> => {
    if (await runs.transition(runId, transition)) journal.announce(runId, isFinal(transition.state));
    if (isFinal(transition.state)) await closeParts(db, [runId]);
    const type = STATE_EVENTS[transition.state];
    const run = type && (await runs.find(runId, undefined));
    if (!type || !run || run.state !== transition.state) return [];
    return tell(run, { type, occurrence: run.stateSeq });
  };
}

export interface Told {
  readonly type: WebhookEvent;
  /** Which one of its type in the run. */
  readonly occurrence: number;
  /** What is told besides how the run stands. */
  readonly about?: object;
}

/** Records what the webhook of a run is told, if it has one that wants to know. Returns the deliveries to announce. */
export function createTellWebhook({ db, webhooks, cipher }: Pick<RunStateDeps, 'db' | 'webhooks' | 'cipher'>) {
  return async (run: Run, { type, occurrence, about }: Told): Promise<readonly string[]> => {
    if (!run.webhook) return [];
    const sealed = await cipher.decrypt(run.webhook);
    const { url, secret, events } = JSON.parse(sealed.toString()) as RunWebhook;
    if (!events.includes(type)) return [];
    const { id: runId, owner, project } = run;
    const data = { ...describe(run), ...about };
    return [await webhooks.record(db, { runId, owner, project, type, occurrence, at: new Date(), data, url, secret })];
  };
}

/** No prompt and no answer: a receiver fetches those with a key of its own. */
const describe = ({ id, kind, state, model, team, metadata, costNanos, error, createdAt, completedAt }: Run) => ({
  id,
  kind,
  status: state,
  model,
  team,
  metadata,
  cost_usd: toDollars(costNanos),
  error: error && { code: error.code, message: error.message },
  created_at: createdAt.toISOString(),
  completed_at: completedAt?.toISOString() ?? null,
});

/** What workflows say about the runs they are. */
export const createRunStateActivities = (deps: RunStateDeps) => ({ recordState: createRecordState(deps) });
