import type { Response } from 'openai/resources/responses/responses';
import type { ModelResult } from '../chat.ts';
import type { ErrorCode, ErrorInfo } from '../errors.ts';
import { faultOf } from '../errors.ts';
import type { Usage } from '../money.ts';
import { PROTOCOL_STATES, type RunState } from '../run-state.ts';
import type { ResponseMetadata } from '../stream-item.ts';
import type { OutputItem } from './items.ts';
import { answerOf, type IncompleteReason, incompleteReasonOf, outputItemsOf } from './output-items.ts';
import type { ResponseSeed } from './seed.ts';

export type ResponseStatus = NonNullable<Response['status']>;

/** How far a response has come. */
export interface ResponseOutcome {
  readonly status: ResponseStatus;
  /** @default none */
  readonly output?: readonly OutputItem[];
  readonly usage?: Usage;
  readonly error?: ErrorInfo;
  readonly incompleteDetails?: { readonly reason: IncompleteReason };
  readonly metadata?: ResponseMetadata;
  /** The model that answered. @default what the caller asked for */
  readonly model?: string;
}

export type ResponseObject = ReturnType<typeof toResponseObject>;

/** A response in OpenAI's shape. `metadata` is the caller's there, so the gateway's facts are in `holdfast`. */
export const toResponseObject = (
  { id, createdAt, model, background, echo }: ResponseSeed,
  outcome: ResponseOutcome,
) => ({
  id,
  object: 'response' as const,
  created_at: createdAt,
  status: outcome.status,
  background,
  error: outcome.error ? toResponseError(outcome.error) : null,
  incomplete_details: outcome.incompleteDetails ?? null,
  model: outcome.model ?? model,
  output: [...(outcome.output ?? [])],
  usage: outcome.usage ? toResponseUsage(outcome.usage) : null,
  ...echo,
  ...(outcome.metadata && { holdfast: outcome.metadata }),
});

/** A response whose run has not ended. */
export const pendingResponse = (seed: ResponseSeed, state: RunState): ResponseObject =>
  toResponseObject(seed, { status: PROTOCOL_STATES[state].response });

/**
 * A response whose run has answered.
 * @param firstNumber See `outputItemsOf`.
 */
export function answeredResponse(
  seed: ResponseSeed,
  result: ModelResult,
  metadata: ResponseMetadata,
  firstNumber = 0,
): ResponseObject {
  const reason = incompleteReasonOf(answerOf(result));
  return {
    ...result.extra,
    ...toResponseObject(seed, {
      status: reason ? 'incomplete' : 'completed',
      output: outputItemsOf(seed, result, firstNumber),
      usage: result.usage,
      ...(reason && { incompleteDetails: { reason } }),
      metadata,
      ...(result.model && { model: result.model }),
    }),
    // The tier that served the request, where the provider says which.
    service_tier: (result.extra?.service_tier as ResponseObject['service_tier']) ?? seed.echo.service_tier,
  };
}

/** A response whose run failed or was cancelled; OpenAI calls a cancellation no error. */
export const failedResponse = (seed: ResponseSeed, error: ErrorInfo): ResponseObject =>
  error.code === 'gateway_cancelled'
    ? toResponseObject(seed, { status: 'cancelled' })
    : toResponseObject(seed, { status: 'failed', error });

export const toResponseUsage = (usage: Usage) => ({
  input_tokens: usage.inputTokens,
  input_tokens_details: { cached_tokens: usage.cachedInputTokens, cache_write_tokens: usage.cacheWriteTokens },
  output_tokens: usage.outputTokens,
  output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
  total_tokens: usage.inputTokens + usage.outputTokens,
});

type ResponseErrorCode = 'server_error' | 'rate_limit_exceeded' | 'invalid_prompt';

const LIMITS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'policy_rate_limited',
  'policy_budget_exceeded',
  'provider_rate_limited',
]);
/** Errors of the provider that the prompt is to blame for. */
const PROMPT_REFUSED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'provider_context_length',
  'provider_content_filtered',
  'provider_invalid_request',
]);

/** OpenAI has few codes for a failed response; `message` says what they do not. */
function toResponseError({ code, message }: ErrorInfo): { code: ResponseErrorCode; message: string } {
  if (LIMITS.has(code)) return { code: 'rate_limit_exceeded', message };
  const promptAtFault = faultOf(code) === 'caller' || PROMPT_REFUSED.has(code);
  return { code: promptAtFault ? 'invalid_prompt' : 'server_error', message };
}
