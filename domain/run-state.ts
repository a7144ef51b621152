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
export const RUN_KINDS = ['chat.completion', 'response', 'batch', 'pipeline'] as const;

export type RunKind = (typeof RUN_KINDS)[number];

/** A run's state in the words of the protocols that it is served by. */
export interface ProtocolStates {
  /** OpenAI's `Response.status`; `incomplete` is a property of the answer, not of the run. */
  readonly response: 'queued' | 'in_progress' | 'completed' | 'failed' | 'cancelled';
  /** Task states of A2A. */
  readonly a2a: 'submitted' | 'working' | 'input-required' | 'completed' | 'failed' | 'canceled';
  /** Task states of MCP. */
  readonly mcp: 'working' | 'input_required' | 'completed' | 'failed' | 'cancelled';
}

/** Nobody but an operator can answer a pause or an empty budget, so to callers such a run is at work. */
export const PROTOCOL_STATES: Readonly<Record<RunState, ProtocolStates>> = {
  queued: { response: 'queued', a2a: 'submitted', mcp: 'working' },
  running: { response: 'in_progress', a2a: 'working', mcp: 'working' },
  input_required: { response: 'in_progress', a2a: 'input-required', mcp: 'input_required' },
  budget_exceeded: { response: 'in_progress', a2a: 'working', mcp: 'working' },
  paused: { response: 'in_progress', a2a: 'working', mcp: 'working' },
  completed: { response: 'completed', a2a: 'completed', mcp: 'completed' },
  failed: { response: 'failed', a2a: 'failed', mcp: 'failed' },
  cancelled: { response: 'cancelled', a2a: 'canceled', mcp: 'cancelled' },
};
