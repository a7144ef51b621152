/**
 * The catalogue of every error a caller, an operator or a workflow can see.
 *
 * The key is `<fault>_<reason>` and is also the Temporal failure type. `fault` says who has to act:
 * `caller` (change the request), `policy` (a limit said no), `provider` (the upstream failed), `gateway` (us).
 */

/** What the workflow does after a failed attempt. `retry` falls through to `next` once the attempts are used up. */
export type FallbackRule = 'retry' | 'next' | 'stop';

interface ErrorEntry {
  /** HTTP status of the final answer. */
  readonly status: number;
  /** `error.type` in OpenAI's envelope. */
  readonly type: string;
  /** `error.code` in OpenAI's envelope. */
  readonly code: string;
  readonly fallback: FallbackRule;
}

const stop = (status: number, type: string, code: string): ErrorEntry => ({ status, type, code, fallback: 'stop' });
const next = (status: number, type: string, code: string): ErrorEntry => ({ status, type, code, fallback: 'next' });
const retry = (status: number, type: string, code: string): ErrorEntry => ({ status, type, code, fallback: 'retry' });

export const ERRORS = {
  caller_invalid_request: stop(400, 'invalid_request_error', 'invalid_request'),
  caller_unsupported_parameter: stop(400, 'invalid_request_error', 'unsupported_parameter'),
  caller_unauthenticated: stop(401, 'invalid_request_error', 'invalid_api_key'),
  caller_forbidden: stop(403, 'permission_error', 'forbidden'),
  caller_not_found: stop(404, 'invalid_request_error', 'not_found'),
  caller_model_not_found: stop(404, 'invalid_request_error', 'model_not_found'),
  caller_conflict: stop(409, 'invalid_request_error', 'conflict'),
  caller_body_too_large: stop(413, 'invalid_request_error', 'request_too_large'),
  caller_unsupported_media_type: stop(415, 'invalid_request_error', 'unsupported_media_type'),

  policy_model_not_allowed: stop(403, 'permission_error', 'model_not_allowed'),
  policy_privacy_zone: stop(403, 'permission_error', 'privacy_zone'),
  policy_model_not_priced: stop(400, 'invalid_request_error', 'model_not_priced'),
  policy_rate_limited: stop(429, 'rate_limit_error', 'rate_limit_exceeded'),
  policy_approval_rejected: stop(403, 'permission_error', 'approval_rejected'),
  policy_turn_limit: stop(422, 'invalid_request_error', 'turn_limit'),
  policy_budget_exceeded: stop(429, 'insufficient_quota', 'insufficient_quota'),

  provider_rate_limited: retry(429, 'rate_limit_error', 'provider_rate_limited'),
  provider_overloaded: retry(503, 'server_error', 'provider_overloaded'),
  provider_timeout: retry(504, 'server_error', 'provider_timeout'),
  provider_network: retry(502, 'server_error', 'provider_unreachable'),
  provider_server_error: retry(502, 'server_error', 'provider_error'),
  // 401 would blame the caller's key; the gateway's own credential is at fault.
  provider_auth: next(502, 'server_error', 'provider_auth_failed'),
  provider_quota_exhausted: next(503, 'server_error', 'provider_quota_exhausted'),
  provider_model_not_found: next(404, 'invalid_request_error', 'model_not_found'),
  provider_context_length: next(400, 'invalid_request_error', 'context_length_exceeded'),
  provider_content_filtered: next(400, 'invalid_request_error', 'content_filter'),
  provider_invalid_request: stop(400, 'invalid_request_error', 'invalid_request'),
  provider_stream_interrupted: stop(502, 'server_error', 'stream_interrupted'),

  gateway_unavailable: retry(503, 'server_error', 'service_unavailable'),
  gateway_deadline_exceeded: stop(504, 'server_error', 'deadline_exceeded'),
  gateway_cancelled: stop(409, 'server_error', 'request_cancelled'),
  gateway_internal: stop(500, 'server_error', 'internal_error'),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** The part of an error that crosses process and history boundaries. Messages never hold keys or prompts. */
export interface ErrorInfo {
  readonly code: ErrorCode;
  readonly message: string;
  /** The request field at fault, in OpenAI's notation (`messages[0].content`). */
  readonly param?: string;
  /** When a retry may succeed, in milliseconds from now. */
  readonly retryAfterMs?: number;
  /** HTTP status the provider answered with, when it answered. */
  readonly providerStatus?: number;
}

export interface ErrorOptions {
  readonly param?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly providerStatus?: number | undefined;
  readonly cause?: unknown;
}

/** The only error type that crosses a module boundary. */
export class HoldfastError extends Error implements ErrorInfo {
  readonly code: ErrorCode;
  readonly param?: string;
  readonly retryAfterMs?: number;
  readonly providerStatus?: number;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'HoldfastError';
    this.code = code;
    if (options.param !== undefined) this.param = options.param;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
    if (options.providerStatus !== undefined) this.providerStatus = options.providerStatus;
  }

  static from(info: ErrorInfo): HoldfastError {
    return new HoldfastError(info.code, info.message, info);
  }

  get info(): ErrorInfo {
    return {
      code: this.code,
      message: this.message,
      ...(this.param !== undefined && { param: this.param }),
      ...(this.retryAfterMs !== undefined && { retryAfterMs: this.retryAfterMs }),
      ...(this.providerStatus !== undefined && { providerStatus: this.providerStatus }),
    };
  }
}

export const isErrorCode = (value: unknown): value is ErrorCode => typeof value === 'string' && value in ERRORS;

/** Whether asking again under the same `Idempotency-Key` gives the same error: it was the request's fault, or its end was wanted. */
export const replays = (code: ErrorCode): boolean => ERRORS[code].status < 500 && ERRORS[code].status !== 429;

/** `param` of a `policy_budget_exceeded` that the run’s own limit caused and not a budget. */
export const MAX_COST_PARAM = 'max_cost_usd';

export type ErrorFault = 'caller' | 'policy' | 'provider' | 'gateway';

/** Who has to act on the error. */
export const faultOf = (code: ErrorCode): ErrorFault => code.slice(0, code.indexOf('_')) as ErrorFault;

/** Any thrown value as a `HoldfastError`; what is not ours becomes `gateway_internal` without its message. */
export function toHoldfastError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  return new HoldfastError('gateway_internal', 'The gateway failed on this request. It has been logged.', {
    cause: error,
  });
}
