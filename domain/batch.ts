import type { ErrorInfo } from './errors.ts';
import type { ModelCall } from './model-call.ts';
import type { RunState } from './run-state.ts';

/** OpenAI's `Batch.status`. */
export const BATCH_STATUSES = [
  'validating',
  'failed',
  'in_progress',
  'finalizing',
  'completed',
  'expired',
  'cancelling',
  'cancelled',
] as const;

export type BatchStatus = (typeof BATCH_STATUSES)[number];

/** Lines one batch may have. OpenAI allows half as many. */
export const MAX_BATCH_LINES = 100_000;

/** What was wrong with a batch's input, as OpenAI tells it. */
export interface InputProblem {
  readonly code: string;
  readonly message: string;
  /** Of the input file, counted from 1; null where it is the file. */
  readonly line: number | null;
  readonly param: string | null;
}

/** A line that could be called is `open` until it has an end. */
export type LineState = 'open' | 'completed' | 'failed' | 'expired' | 'cancelled';

/** How the call of a line ended. */
export interface LineEnd {
  /** Its line in the input file, counted from 1. */
  readonly n: number;
  readonly state: Exclude<LineState, 'open'>;
  /** Absent from completed lines. */
  readonly error?: ErrorInfo;
}

/** A line whose call is planned and stored. */
export interface PreparedLine {
  readonly n: number;
  readonly call: ModelCall;
}

/** The ledger row of a line's call has an id that follows from the line, so that it is stored once. */
export const lineRequestId = (batchId: string, n: number): string => `${batchId}-${n}`;

/** How a call's error ends its line. */
export function lineEndOf(n: number, error: ErrorInfo): LineEnd {
  switch (error.code) {
    case 'gateway_cancelled':
      return { n, state: 'cancelled', error };
    case 'gateway_deadline_exceeded':
      return { n, state: 'expired', error };
    default:
      return { n, state: 'failed', error };
  }
}

/** What of a batch says how far it has come. */
export interface BatchProgress {
  readonly state: RunState;
  readonly inProgressAt: Date | null;
  readonly finalizingAt: Date | null;
  readonly cancellingAt: Date | null;
  readonly expiredAt: Date | null;
}

/** Nobody but an operator can end a pause or raise a budget, so to callers such a batch is in progress. */
export function batchStatusOf(batch: BatchProgress): BatchStatus {
  switch (batch.state) {
    case 'completed':
    case 'cancelled':
      return batch.state;
    case 'failed':
      return batch.expiredAt ? 'expired' : 'failed';
    default:
      if (batch.cancellingAt) return 'cancelling';
      if (batch.finalizingAt) return 'finalizing';
      return batch.inProgressAt ? 'in_progress' : 'validating';
  }
}
