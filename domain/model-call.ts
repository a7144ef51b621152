import type { NanoDollars, Price, Usage } from './money.ts';
import type { AdmissionTerms, RateLimit, WhenUnavailable } from './rate-limit.ts';

/** One target of the route plan with everything a call to it needs, fixed when the request was accepted. */
export interface CallTarget {
  readonly provider: string;
  readonly model: string;
  /** Calls allowed, including the first. */
  readonly maxAttempts: number;
  readonly timeoutMs: number;
  /** Output limit to set upstream because the caller set none and the budget is hard. */
  readonly outputLimit?: number;
  readonly maxOutputTokens: number;
  /** null for a model without a price. */
  readonly price: Price | null;
  readonly maxCostNanos: NanoDollars;
}

/** Whose stored provider keys a call may use: those of who authenticated, whatever team the request counts for. */
export interface KeyScope {
  readonly virtualKeyId: string | null;
  readonly team: string | null;
}

/** One model request, small enough for a workflow's history: the body is a reference. */
export interface ModelCall {
  readonly requestId: string;
  readonly bodyRef: string;
  readonly stream: boolean;
  /** Go on after a stream broke in the middle: the caller can fetch the answer later. */
  readonly resumable: boolean;
  readonly targets: readonly CallTarget[];
  /** Absent: only keys that are everybody's. */
  readonly keyScope?: KeyScope;
  readonly retryDelayMs: number;
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  readonly admission: AdmissionRequest;
  /**
   * The activity that makes its calls also reserves before the first and settles after the answer. In the background,
   * and in runs of earlier versions, the workflow does both.
   */
  readonly checkedByCall?: boolean;
  /** Among whom a provider's own limits are shared fairly; absent from runs of earlier versions. */
  readonly tenant?: string;
  /** The most all calls of it may cost together. */
  readonly maxCostNanos?: NanoDollars;
  /** What its calls show is kept in Postgres, for readers of any time. */
  readonly background?: boolean;
  /** The step of a pipeline that it is made for. */
  readonly step?: string;
  /** Its first call may go through the provider's batch API, together with others. */
  readonly gather?: boolean;
}

/** What is reserved before the call. */
export interface AdmissionRequest extends AdmissionTerms {
  readonly limits: readonly RateLimit[];
  /** Input tokens, estimated; the limit is corrected by what the provider counted. */
  readonly estimatedTokens: number;
  readonly maxCostNanos: NanoDollars;
  /** Date of the price book. */
  readonly priceVersion: string;
  /** @default 'open' */
  readonly whenUnavailable?: WhenUnavailable;
  /** When it was asked for, in milliseconds since the epoch; absent where the workflow knows. */
  readonly since?: number;
}

/** The call of one target, retries included. */
export interface TargetCall {
  readonly requestId: string;
  readonly bodyRef: string;
  readonly stream: boolean;
  readonly resumable: boolean;
  readonly targetIndex: number;
  readonly target: CallTarget;
  readonly keyScope?: KeyScope;
  readonly hasNextTarget: boolean;
  /** The first target's provider, when this is another. */
  readonly fallbackFrom?: string;
  readonly retryDelayMs: number;
  readonly deadlineAt: number;
  readonly tenant?: string;
  /** What the call takes of a provider's token limit. */
  readonly estimatedTokens?: number;
  readonly maxCostNanos?: NanoDollars;
  readonly background?: boolean;
  /** The step of a pipeline that it is made for, which wants to know what tools the model calls. */
  readonly step?: string;
  /** What is taken before the first call and settled after the answer; absent where the workflow does both. */
  readonly admission?: AdmissionRequest;
}

/** The calls of one target, as an activity is asked for them. */
export function targetCallOf(call: ModelCall, targetIndex: number, maxCostNanos?: NanoDollars): TargetCall {
  const target = call.targets[targetIndex] as CallTarget;
  const first = call.targets[0] as CallTarget;
  return {
    requestId: call.requestId,
    bodyRef: call.bodyRef,
    stream: call.stream,
    resumable: call.resumable,
    targetIndex,
    target,
    ...(call.keyScope && { keyScope: call.keyScope }),
    hasNextTarget: targetIndex + 1 < call.targets.length,
    ...(target.provider !== first.provider && { fallbackFrom: first.provider }),
    retryDelayMs: call.retryDelayMs,
    deadlineAt: call.deadlineAt,
    ...(call.tenant !== undefined && { tenant: call.tenant }),
    estimatedTokens: call.admission.estimatedTokens,
    ...(maxCostNanos !== undefined && { maxCostNanos }),
    ...(call.background && { background: true }),
    ...(call.step !== undefined && { step: call.step }),
    ...(call.checkedByCall && { admission: call.admission }),
  };
}

/** What a workflow knows of an answer; the answer itself is in `bodies`. */
export interface ModelCallResult {
  readonly provider: string;
  readonly model: string;
  readonly finishReasons: readonly string[];
  readonly usage: Usage;
  readonly responseRef: string;
  /** Of the first choice, by their places from 1; only for a step of a pipeline. */
  readonly toolCalls?: readonly { readonly id: string; readonly name: string }[];
  /** The request is settled, which caused these budget alerts. */
  readonly settled?: {
    readonly alerts: readonly string[];
    /** Of all its attempts; only for a step of a pipeline. */
    readonly costNanos?: NanoDollars;
  };
}
