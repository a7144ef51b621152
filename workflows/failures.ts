import { ActivityFailure, ApplicationFailure, isCancellation, TimeoutFailure } from '@temporalio/workflow';
import { type ErrorInfo, HoldfastError, isErrorCode } from '../domain/errors.ts';

/** The catalogue's view of what an activity threw, or the workflow itself. */
export function errorInfoOf(error: unknown): ErrorInfo {
  if (error instanceof HoldfastError) return error.info;
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (cause instanceof ApplicationFailure) {
    const [info] = (cause.details ?? []) as ErrorInfo[];
    if (info && isErrorCode(info.code)) return info;
    return { code: 'gateway_internal', message: 'The gateway failed on this request. It has been logged.' };
  }
  if (cause instanceof TimeoutFailure) {
    return { code: 'gateway_deadline_exceeded', message: 'The request did not finish before its deadline.' };
  }
  if (isCancellation(error)) return { code: 'gateway_cancelled', message: 'The request was cancelled.' };
  return { code: 'gateway_internal', message: 'The gateway failed on this request. It has been logged.' };
}

/** Ends the workflow as failed, under the catalogue's code. */
export const toWorkflowFailure = (info: ErrorInfo): ApplicationFailure =>
  ApplicationFailure.create({ message: info.message, type: info.code, nonRetryable: true, details: [info] });
