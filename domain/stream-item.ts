import type { ApprovalState } from './approval.ts';
import type { TargetKey } from './attempt.ts';
import type { ChoiceDelta, ModelResult } from './chat.ts';
import type { ErrorInfo } from './errors.ts';
import { type NanoDollars, toDollars } from './money.ts';
import type { Pattern, StepState } from './pipeline.ts';
import { isFinal, type RunState } from './run-state.ts';

/** What the caller is told about how the answer came about (seed 000). */
export interface ResponseMetadata {
  readonly provider: string;
  readonly region?: string;
  /** Latency of the provider call that gave the answer. */
  readonly latency_ms: number;
  readonly cost_usd: number;
  /** Provider calls made, failed ones included. */
  readonly attempts: number;
  /** The first target's provider, when another one answered. */
  readonly fallback_from?: string;
}

/** How an answer came about, as the journal has it. */
export interface AnswerFacts {
  readonly provider: string;
  readonly region: string | undefined;
  readonly latencyMs: number;
  readonly costNanos: NanoDollars;
  readonly attempts: number;
  /** Provider of the first target. */
  readonly firstProvider: string;
}

export const toMetadata = (facts: AnswerFacts): ResponseMetadata => ({
  provider: facts.provider,
  ...(facts.region && { region: facts.region }),
  latency_ms: Math.round(facts.latencyMs),
  cost_usd: toDollars(facts.costNanos),
  attempts: facts.attempts,
  ...(facts.firstProvider !== facts.provider && { fallback_from: facts.firstProvider }),
});

/** An entry of a request's stream log. */
export type StreamItem =
  | {
      readonly type: 'delta';
      readonly provider: string;
      readonly model: string;
      readonly choices: readonly ChoiceDelta[];
    }
  /** The attempt that showed the deltas so far died; what follows, if anything, starts over. */
  | { readonly type: 'interrupted'; readonly error: ErrorInfo }
  | { readonly type: 'completed'; readonly result: ModelResult; readonly metadata: ResponseMetadata }
  | { readonly type: 'failed'; readonly error: ErrorInfo }
  /** A run in the background came into a state; the answer of a completed one is in the journal. */
  | { readonly type: 'state'; readonly state: RunState; readonly error?: ErrorInfo }
  /** A step of a pipeline came into a state. */
  | {
      readonly type: 'step';
      readonly step: string;
      readonly pattern: Pattern;
      readonly agent?: string;
      /** The supervisor it works for. */
      readonly parent?: string;
      readonly state: StepState;
      readonly error?: ErrorInfo;
    }
  /** Somebody is asked, or has decided. */
  | { readonly type: 'approval'; readonly id: string; readonly step: string; readonly state: ApprovalState }
  /** There is more in Postgres. */
  | { readonly type: 'news'; readonly last: boolean };

export function endsStream(item: StreamItem): boolean {
  switch (item.type) {
    case 'completed':
    case 'failed':
      return true;
    case 'state':
      return isFinal(item.state);
    case 'news':
      return item.last;
    default:
      return false;
  }
}

/** The writer's rank: a later attempt outranks an earlier one, whose late entries are then refused. */
export const epochOf = ({ targetIndex }: TargetKey, n: number): number => targetIndex * 1_000 + n;

/** The rank of the run itself, which has the last word. */
export const RUN_EPOCH = 1_000_000;
