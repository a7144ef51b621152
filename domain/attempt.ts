/**
 * States of one provider call. `claimed` is in flight; `unknown` is one whose end nobody saw (a lost process, a
 * timeout before the answer): the provider may have billed it, so it is booked at its reserved maximum.
 */
export const ATTEMPT_STATES = ['claimed', 'succeeded', 'failed', 'cancelled', 'unknown'] as const;

export type AttemptState = (typeof ATTEMPT_STATES)[number];

/** Identifies the calls of one model request to one target; an attempt is one of them, numbered from 1. */
export interface TargetKey {
  /** The ledger row; a run with several model calls has one for each. */
  readonly requestId: string;
  readonly targetIndex: number;
}

export interface AttemptKey extends TargetKey {
  readonly n: number;
}

export const keyOf = ({ requestId, targetIndex }: TargetKey): string => `${requestId}:${targetIndex}`;
