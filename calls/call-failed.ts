import type { HoldfastError } from '../domain/errors.ts';

/** A call that gave no answer, with the decision what comes next for this target. */
export class CallFailed extends Error {
  override readonly name = 'CallFailed';
  readonly error: HoldfastError;
  /** Milliseconds until the same target is called again; undefined when it is not. */
  readonly retryInMs: number | undefined;

  constructor(error: HoldfastError, retryInMs?: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.retryInMs = retryInMs;
  }
}
