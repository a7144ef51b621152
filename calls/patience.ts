import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { HoldfastError } from '../domain/errors.ts';
import { CallFailed } from './call-failed.ts';

/** Why `signal` was aborted, in the catalogue's terms. */
export const abortReason = (signal: AbortSignal): HoldfastError =>
  signal.reason instanceof HoldfastError
    ? signal.reason
    : new HoldfastError('gateway_cancelled', 'The request was cancelled.');

/** Resolves when `promise` ends either way. Rejects when `signal` aborts first. */
export function settled(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(new CallFailed(abortReason(signal)));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    const done = () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    promise.then(done, done);
  });
}

const MIN_POLL_MS = 50;
const MAX_POLL_MS = 1_000;

/** Asks until there is an answer, ever less often. Rejects when `signal` aborts. */
export async function pollUntil<T>(signal: AbortSignal, ask: () => Promise<T | undefined>): Promise<T> {
  for (let ms = MIN_POLL_MS; ; ms = Math.min(1.5 * ms, MAX_POLL_MS)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (signal.aborted) throw new CallFailed(abortReason(signal));
    await sleep(ms, undefined, { signal }).catch(() => {});
  }
}

/** Milliseconds an outcome waits for the database to come back before its call counts as lost. */
const PATIENCE_MS = 30_000;
const RETRY_MS = 500;

/** Repeats a write while the database cannot be reached: what a provider answered is not given up lightly. */
export async function retryWhileUnreachable<T>(write: () => Promise<T>, logger: Logger): Promise<T> {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await write();
    } catch (error) {
      const unreachable = error instanceof HoldfastError && error.code === 'gateway_unavailable';
      if (!unreachable || Date.now() > until) throw error;
      logger.warn({ err: error }, 'The database cannot be reached; keeping an outcome until it can');
      await sleep(RETRY_MS);
    }
  }
}
