import type { CallTarget, KeyScope } from './model-call.ts';

/** A model call that goes to its provider as part of a batch. */
export interface BatchedCall {
  readonly requestId: string;
  readonly bodyRef: string;
  readonly target: CallTarget;
  readonly keyScope?: KeyScope;
}

/** A batch at a provider. */
export interface SubmittedBatch {
  readonly provider: string;
  /** The provider's id of it. */
  readonly id: string;
  /** Who holds the claims of its calls. */
  readonly owner: string;
  /** The stored key it was submitted with, which all that concerns it needs; null for the provider's configured one. */
  readonly providerKeyId: string | null;
  /** Milliseconds since the epoch. */
  readonly submittedAt: number;
}
