import { isFinal } from '../domain/run-state.ts';
import type { Runs, Transition } from '../storage/postgres/runs.ts';
import type { JournalledStreamLog } from '../storage/streams/journalled.ts';

export interface RunDeps {
  readonly runs: Runs;
  readonly journal: JournalledStreamLog;
}

/** What workflows say about the runs they are. */
export function createRunActivities({ runs, journal }: RunDeps) {
  return {
    /** Brings a run into a state and its readers the news. Idempotent. */
    async recordState(runId: string, transition: Transition): Promise<void> {
      if (await runs.transition(runId, transition)) journal.announce(runId, isFinal(transition.state));
    },
  };
}
