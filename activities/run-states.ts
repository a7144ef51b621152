import { toDollars } from '../domain/money.ts';
import { isFinal } from '../domain/run-state.ts';
import { type RunWebhook, STATE_EVENTS } from '../domain/run-webhook.ts';
import type { Cipher } from '../storage/cipher.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Run, Runs, Transition } from '../storage/postgres/runs.ts';
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
export function createRecordState({ db, runs, journal, webhooks, cipher }: RunStateDeps) {
  return async (runId: string, transition: Transition): Promise<readonly string[]> => {
    if (await runs.transition(runId, transition)) journal.announce(runId, isFinal(transition.state));
    const type = STATE_EVENTS[transition.state];
    const run = type && (await runs.find(runId, undefined));
    if (!type || !run?.webhook || run.state !== transition.state) return [];
    const sealed = await cipher.decrypt(run.webhook);
    const { url, secret, events } = JSON.parse(sealed.toString()) as RunWebhook;
    if (!events.includes(type)) return [];
    const { owner, project, stateSeq: occurrence } = run;
    const delivery = { runId, owner, project, type, occurrence, at: new Date(), data: describe(run), url, secret };
    return [await webhooks.record(db, delivery)];
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
