import type { Scope } from './scope.ts';

/** One limit that a request has to fit into, and how much of it the request takes. */
export interface RateLimit {
  /** What is counted, e.g. `key:vk-…:requests`. */
  readonly name: string;
  readonly kind: 'requests' | 'tokens';
  /** Per minute. */
  readonly limit: number;
  readonly cost: number;
}

export const limitName = (
  { type, id }: Scope | { readonly type: 'model'; readonly id: string },
  kind: RateLimit['kind'],
) => `${type}:${id}:${kind}`;
