import { LRUCache } from 'lru-cache';
import { HoldfastError } from '../../domain/errors.ts';

/** Milliseconds an identity is remembered; what was revoked works no longer than this, in any process. */
const MEMORY_MS = 1_000;
const MEMORY_SIZE = 10_000;
const RETRY_AFTER_MS = 2_000;

/**
 * `read` with a memory of one second, counted from the moment the reading began. Whatever keeps it from reading is a
 * `gateway_unavailable`: a gateway that cannot look must not call a key wrong.
 */
export function remembered<T>(read: (id: string) => Promise<T>): (id: string) => Promise<T> {
  const known = new LRUCache<string, { readonly value: T }>({ max: MEMORY_SIZE, ttl: MEMORY_MS });
  return async (id) => {
    const cached = known.get(id);
    if (cached) return cached.value;
    const start = performance.now();
    try {
      const value = await read(id);
      known.set(id, { value }, { start });
      return value;
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      throw new HoldfastError('gateway_unavailable', 'The caller cannot be looked up right now. Try again shortly.', {
        retryAfterMs: RETRY_AFTER_MS,
        cause: error,
      });
    }
  };
}
