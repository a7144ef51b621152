import type { LimitReport, ReportedLimit } from '../domain/provider-limits.ts';
import type { ProviderCall } from './adapter.ts';

/** A request of the OpenAI and Anthropic SDKs under way. */
interface SdkRequest<T> {
  withResponse(): Promise<{ readonly data: T; readonly response: Response }>;
}

/** The answer of an SDK; what its headers, or those of the error it throws, say about limits goes to `onLimits`. */
export async function reportingLimits<T>(
  request: SdkRequest<T>,
  call: ProviderCall,
  read: (headers: Headers) => LimitReport,
): Promise<T> {
  try {
    const { data, response } = await request.withResponse();
    call.onLimits?.(read(response.headers));
    return data;
  } catch (error) {
    const { headers } = error as { headers?: unknown };
    if (headers instanceof Headers) call.onLimits?.(read(headers));
    throw error;
  }
}

/** `x-ratelimit-…`, by https://platform.openai.com/docs/guides/rate-limits; resets are durations like `6m0s`. */
export function openAILimits(headers: Headers): LimitReport {
  const limitOf = (kind: string) =>
    reported(
      headers,
      (field) => `x-ratelimit-${field}-${kind}`,
      (text) => parseDuration(text),
    );
  return withoutUndefined({ requests: limitOf('requests'), tokens: limitOf('tokens') });
}

/**
 * `anthropic-ratelimit-…`, by https://docs.anthropic.com/en/api/rate-limits; resets are RFC 3339 times. Input and output
 * have limits of their own: what is counted here is held against that of the input, and none is called while the
 * output's is used up.
 */
export function anthropicLimits(headers: Headers): LimitReport {
  const now = Date.now();
  const limitOf = (kind: string) =>
    reported(
      headers,
      (field) => `anthropic-ratelimit-${kind}-${field}`,
      (text) => Math.max(0, Date.parse(text) - now),
    );
  const output = limitOf('output-tokens');
  return withoutUndefined({
    requests: limitOf('requests'),
    tokens: limitOf('tokens') ?? limitOf('input-tokens'),
    pauseMs: output?.remaining === 0 ? Math.min(output.resetMs ?? 0, MAX_PAUSE_MS) : undefined,
  });
}

/** A reset is when all of a limit is free again; part of it is long before. */
const MAX_PAUSE_MS = 5_000;

function reported(
  headers: Headers,
  nameOf: (field: string) => string,
  parseReset: (text: string) => number,
): ReportedLimit | undefined {
  const number = (field: string): number | undefined => {
    const text = headers.get(nameOf(field));
    return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
  };
  const limit = number('limit');
  if (!limit) return undefined;
  const reset = headers.get(nameOf('reset'));
  const resetMs = reset === null ? Number.NaN : parseReset(reset);
  const remaining = number('remaining');
  return {
    limit,
    ...(remaining !== undefined && { remaining }),
    ...(Number.isFinite(resetMs) && { resetMs: Math.ceil(resetMs) }),
  };
}

const UNITS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** Milliseconds of `1h2m3.5s`, `120ms`, or of a plain number of seconds as compatible servers write it. */
function parseDuration(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1_000;
  if (!/^(\d+(\.\d+)?(ms|h|m|s))+$/.test(text)) return Number.NaN;
  const parts = text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g);
  return [...parts].reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (UNITS[unit] ?? 0), 0);
}

const withoutUndefined = (report: { readonly [K in keyof LimitReport]: LimitReport[K] | undefined }): LimitReport =>
  Object.fromEntries(Object.entries(report).filter(([, value]) => value !== undefined));
