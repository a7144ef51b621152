import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common';
import { ERRORS, type HoldfastError } from '../domain/errors.ts';

/**
 * An error as workflows see it: the type is the catalogue's code, the details are its `ErrorInfo`.
 * @param retryInMs When Temporal repeats the activity; undefined when it must not.
 */
export function toFailure(error: HoldfastError, retryInMs?: number): ApplicationFailure {
  return ApplicationFailure.create({
    message: error.message,
    type: error.code,
    nonRetryable: retryInMs === undefined,
    details: [error.info],
    // The server takes a delay of 0 for "do not retry".
    ...(retryInMs !== undefined && { nextRetryDelay: Math.max(1, retryInMs) }),
    // Everything but our own fault is business as usual and needs no stack trace in the worker's log.
    ...(error.code !== 'gateway_internal' && { category: ApplicationFailureCategory.BENIGN }),
  });
}

/** Errors of the gateway's own parts, such as an unreachable database: Temporal repeats those by its own backoff. */
export function toInfrastructureFailure(error: HoldfastError): ApplicationFailure {
  return ApplicationFailure.create({
    message: error.message,
    type: error.code,
    nonRetryable: ERRORS[error.code].fallback !== 'retry',
    details: [error.info],
  });
}
