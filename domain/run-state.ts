/** States of a run, the same in API, tables and logs. */
export const RUN_STATES = [
  'queued',
  'running',
  'input_required',
  'budget_exceeded',
  'paused',
  'completed',
  'failed',
  'cancelled',
] as const;

export type RunState = (typeof RUN_STATES)[number];

const FINAL: ReadonlySet<RunState> = new Set(['completed', 'failed', 'cancelled']);

export const isFinal = (state: RunState): boolean => FINAL.has(state);

/** What a run in the background does: one model call, in the shape of its surface, or many. */
export const RUN_KINDS = ['chat.completion', 'response', 'batch'] as const;

export type RunKind = (typeof RUN_KINDS)[number];
