import type { ErrorCode, ErrorInfo } from '../../domain/errors.ts';

/** The columns in which a row says what went wrong. */
export interface ErrorColumns {
  readonly error_code: string | null;
  readonly error_message: string | null;
  readonly error_param: string | null;
}

/** null for a row that says nothing. */
export const toErrorInfo = ({ error_code, error_message, error_param }: ErrorColumns): ErrorInfo | null =>
  error_code
    ? {
        code: error_code as ErrorCode,
        message: error_message ?? '',
        ...(error_param !== null && { param: error_param }),
      }
    : null;
