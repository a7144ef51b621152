import { type ErrorCode, type ErrorOptions, HoldfastError } from '../domain/errors.ts';
import { retryAfterMs } from '../domain/retry-after.ts';

interface ProviderErrorOptions extends ErrorOptions {
  /** The provider may have done (and bill) the work: it took the request and never answered. */
  readonly maybeBilled?: boolean;
}

/** A failed call to a provider, in the catalogue's terms. */
export class ProviderError extends HoldfastError {
  readonly maybeBilled: boolean;

  constructor(code: ErrorCode, message: string, options: ProviderErrorOptions = {}) {
    super(code, message, options);
    this.maybeBilled = options.maybeBilled ?? false;
  }
}

/** What the SDKs' errors have in common, read without trusting any of it. */
interface Facts {
  readonly status: number | undefined;
  /** The SDK's class or exception name. */
  readonly name: string;
  /** The provider's machine-readable reason: OpenAI's `code` or `type`, Anthropic's `type`, AWS's exception name. */
  readonly reason: string;
  readonly message: string;
  readonly param: string | undefined;
  readonly retryAfterMs: number | undefined;
  /** Node's error code of a failed connection, e.g. `ECONNREFUSED`. */
  readonly systemCode: string | undefined;
}

/**
 * Any error of a provider SDK as a `ProviderError`. The SDK's own is not kept as its cause: it may quote the key.
 * @param secrets What the call authenticated with; providers echo it in some messages.
 */
export function toProviderError(error: unknown, provider: string, secrets: readonly string[] = []): ProviderError {
  if (error instanceof ProviderError) return error;
  const facts = factsOf(error);
  const code = classify(facts);
  const detail = code === 'provider_auth' ? 'the gateway’s credential was refused' : redact(facts.message, secrets);
  const param = facts.param === undefined ? undefined : redact(facts.param, secrets);
  return new ProviderError(code, `${provider}: ${detail}`, {
    retryAfterMs: facts.retryAfterMs,
    providerStatus: facts.status,
    ...(code === 'provider_invalid_request' && { param }),
    maybeBilled: facts.status === undefined && !neverSent(facts),
  });
}

function factsOf(error: unknown): Facts {
  const outer = record(error);
  const body = record(record(outer.error).error ?? outer.error);
  const metadata = record(outer.$metadata);
  const response = record(outer.$response);
  const name = String(outer.name ?? (error instanceof Error ? error.constructor.name : ''));
  return {
    status: number(outer.status) ?? number(metadata.httpStatusCode),
    name: error instanceof Error && name === 'Error' ? error.constructor.name : name,
    reason: String(body.code || outer.code || body.type || outer.type || name),
    message: String(body.message ?? (error instanceof Error ? error.message : error)),
    param: typeof outer.param === 'string' ? outer.param : undefined,
    retryAfterMs: retryAfter(outer.headers ?? response.headers),
    systemCode: systemCodeOf(error),
  };
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);

function classify(facts: Facts): ErrorCode {
  const { status, name, reason, message, systemCode } = facts;
  const specific = SPECIFIC_REASONS[reason] ?? SPECIFIC_REASONS[name];
  if (specific) return specific;
  if (status === 400 || status === 413 || status === 422) return classifyBadRequest(status, message);
  if (status !== undefined) return byStatus(status);
  const generic = GENERIC_REASONS[reason];
  if (generic === 'provider_invalid_request') return classifyBadRequest(status, message);
  if (generic) return generic;
  if (/timeout/i.test(name) || systemCode === 'UND_ERR_HEADERS_TIMEOUT' || systemCode === 'UND_ERR_BODY_TIMEOUT') {
    return 'provider_timeout';
  }
  if (/^credentials/i.test(name) || /could not load credentials/i.test(message)) return 'provider_auth';
  if (systemCode || /connection|fetch failed|terminated|socket|premature/i.test(`${name} ${message}`)) {
    return 'provider_network';
  }
  return 'provider_server_error';
}

function classifyBadRequest(status: number | undefined, message: string): ErrorCode {
  if (
    status === 413 ||
    /too long|too many (input )?tokens|context (length|window)|maximum.{0,20}tokens/i.test(message)
  ) {
    return 'provider_context_length';
  }
  if (/credit balance is too low/i.test(message)) return 'provider_quota_exhausted';
  // Google and xAI answer 400 where others answer 401. Only at the start: further on it may quote the request.
  if (/^(api key not valid|incorrect api key)/i.test(message)) {
    return 'provider_auth';
  }
  if (/content (management|filter)/i.test(message)) return 'provider_content_filtered';
  if (/model identifier is invalid|on-demand throughput|model.{0,40}not (exist|found|supported)/i.test(message)) {
    return 'provider_model_not_found';
  }
  return 'provider_invalid_request';
}

function byStatus(status: number): ErrorCode {
  if (status === 401 || status === 403) return 'provider_auth';
  if (status === 402) return 'provider_quota_exhausted';
  if (status === 404) return 'provider_model_not_found';
  if (status === 408 || status === 504) return 'provider_timeout';
  if (status === 429) return 'provider_rate_limited';
  if (status === 503 || status === 529) return 'provider_overloaded';
  return status >= 500 || status === 409 || status === 424 ? 'provider_server_error' : 'provider_invalid_request';
}

/** Reasons that say more than the HTTP status they come with. */
const SPECIFIC_REASONS: Readonly<Record<string, ErrorCode>> = {
  // OpenAI and compatible servers
  insufficient_quota: 'provider_quota_exhausted',
  billing_hard_limit_reached: 'provider_quota_exhausted',
  context_length_exceeded: 'provider_context_length',
  content_filter: 'provider_content_filtered',
  content_policy_violation: 'provider_content_filtered',
  model_not_found: 'provider_model_not_found',
  // Anthropic
  overloaded_error: 'provider_overloaded',
  billing_error: 'provider_quota_exhausted',
  request_too_large: 'provider_context_length',
  // AWS
  ThrottlingException: 'provider_rate_limited',
  ServiceQuotaExceededException: 'provider_quota_exhausted',
  ModelNotReadyException: 'provider_overloaded',
  ServiceUnavailableException: 'provider_overloaded',
  ModelTimeoutException: 'provider_timeout',
  ModelErrorException: 'provider_server_error',
  ModelStreamErrorException: 'provider_server_error',
  InternalServerException: 'provider_server_error',
  AccessDeniedException: 'provider_auth',
  UnrecognizedClientException: 'provider_auth',
  ExpiredTokenException: 'provider_auth',
  InvalidSignatureException: 'provider_auth',
  ResourceNotFoundException: 'provider_model_not_found',
};

/** Reasons that repeat the HTTP status, for errors inside a stream, which have none. */
const GENERIC_REASONS: Readonly<Record<string, ErrorCode>> = {
  rate_limit_exceeded: 'provider_rate_limited',
  rate_limit_error: 'provider_rate_limited',
  server_error: 'provider_server_error',
  api_error: 'provider_server_error',
  authentication_error: 'provider_auth',
  permission_error: 'provider_auth',
  not_found_error: 'provider_model_not_found',
  timeout_error: 'provider_timeout',
  request_timeout: 'provider_timeout',
  invalid_request_error: 'provider_invalid_request',
};

/** Connections that failed before a byte of the request left. */
const NEVER_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'UND_ERR_CONNECT_TIMEOUT']);

const neverSent = ({ name, systemCode, message }: Facts): boolean =>
  (systemCode !== undefined && NEVER_SENT.has(systemCode)) ||
  /^credentials/i.test(name) ||
  /could not load credentials/i.test(message);

function systemCodeOf(error: unknown): string | undefined {
  let current: unknown = error;
  for (let depth = 0; depth < 5 && current; depth += 1) {
    const { code, errors, cause } = record(current);
    if (typeof code === 'string' && /^(E[A-Z]+|UND_ERR_[A-Z_]+)$/.test(code)) return code;
    current = cause ?? (Array.isArray(errors) ? errors[0] : undefined);
  }
  return undefined;
}

function retryAfter(headers: unknown): number | undefined {
  return retryAfterMs((name) => {
    if (headers instanceof Headers) return headers.get(name);
    const value = record(headers)[name];
    return typeof value === 'string' ? value : undefined;
  });
}

const MAX_MESSAGE_LENGTH = 500;

/** What is shorter is no key but a placeholder, and might be part of any word. */
const MIN_SECRET_LENGTH = 8;

/** Without the keys in use, whatever they look like, and without (parts of) what looks like one. */
function redact(message: string, secrets: readonly string[]): string {
  const known = secrets.filter((secret) => secret.length >= MIN_SECRET_LENGTH);
  return known
    .reduce((text, secret) => text.replaceAll(secret, '[redacted]'), message)
    .replace(/\b(sk|pk|rk|key|AKIA|ASIA|xai|gsk|AIza)[-_]?[A-Za-z0-9*_-]{8,}/g, '[redacted]')
    .slice(0, MAX_MESSAGE_LENGTH);
}
