import type { Scope } from './scope.ts';

/** `requests` and `tokens` are counted per minute, `concurrent` are requests at the same time. */
export type LimitKind = 'requests' | 'tokens' | 'concurrent';

/** One limit that a request has to fit into, and how much of it the request takes. */
export interface RateLimit {
  /** What is counted, e.g. `key:vk-…:requests`. */
  readonly name: string;
  readonly kind: LimitKind;
  readonly limit: number;
  readonly cost: number;
}

export const limitName = ({ type, id }: Scope | { readonly type: 'model'; readonly id: string }, kind: LimitKind) =>
  `${type}:${id}:${kind}`;

/** While interactive requests wait for a limit, batch requests do not get it. */
export const PRIORITIES = ['interactive', 'batch'] as const;

export type Priority = (typeof PRIORITIES)[number];

/** What happens to requests while nobody can say whether they are within their limits. */
export type WhenUnavailable = 'open' | 'closed';

/** On what terms a caller asks to be admitted. */
export interface AdmissionTerms {
  /** Milliseconds the request may wait for its limits; without them it is refused at once. */
  readonly maxWaitMs?: number;
  /** @default 'interactive' */
  readonly priority?: Priority;
}

/** How much of a limit is left. */
export interface LimitStatus {
  readonly kind: LimitKind;
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until all of it is, if nothing else comes in; 0 for `concurrent`, which no clock frees. */
  readonly resetMs: number;
}
