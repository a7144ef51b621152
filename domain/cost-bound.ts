import type { CatalogueModel } from './catalogue.ts';
import { type ModelRequest, outputLimit } from './chat.ts';
import { maxCostOf, type NanoDollars } from './money.ts';

/** Upper bound of tokens for one image: Anthropic and OpenAI both bill fewer at their highest detail. */
const MAX_TOKENS_PER_IMAGE = 5_000;
/** Role markers and separators that providers add around each message. */
const MAX_OVERHEAD_PER_MESSAGE = 16;
/** Output bound where neither the caller nor the catalogue names one. */
const DEFAULT_MAX_OUTPUT_TOKENS = 16_384;
/** English prose has about 4 bytes a token, code and other scripts fewer. */
const TYPICAL_BYTES_PER_TOKEN = 3;

export interface InputBound {
  /** No tokenizer can make more tokens of the request than this; `Infinity` when a document's pages cannot be counted. */
  readonly maxTokens: number;
  /** A realistic count, for deciding what still fits a context window. */
  readonly typicalTokens: number;
  readonly images: number;
}

/** Bounds the input tokens of a request: byte-level BPE makes at most one token of a byte. */
export function boundInput(request: ModelRequest): InputBound {
  let bytes = 0;
  let images = 0;
  let documents = 0;
  const { messages, tools, response_format } = request;
  for (const { content, ...rest } of messages) {
    bytes += byteLength(JSON.stringify(rest));
    if (typeof content === 'string') bytes += byteLength(content);
    for (const part of Array.isArray(content) ? content : []) {
      if (part.type === 'image_url') images += 1;
      else if (part.type === 'file') documents += 1;
      else bytes += byteLength(JSON.stringify(part));
    }
  }
  if (tools) bytes += byteLength(JSON.stringify(tools));
  if (response_format) bytes += byteLength(JSON.stringify(response_format));
  const fixed = images * MAX_TOKENS_PER_IMAGE + messages.length * MAX_OVERHEAD_PER_MESSAGE;
  return {
    maxTokens: documents > 0 ? Number.POSITIVE_INFINITY : bytes + fixed,
    typicalTokens: Math.ceil(bytes / TYPICAL_BYTES_PER_TOKEN) + fixed,
    images,
  };
}

const byteLength = (text: string): number => Buffer.byteLength(text);

export interface CallBound {
  /** Output limit to set upstream for each choice, where the caller set none. */
  readonly injectedOutputLimit?: number;
  /** The most one call to this target can cost; 0 for a model without a price. */
  readonly maxCostNanos: NanoDollars;
}

/** What must not be overspent. */
export interface SpendingRules {
  /** Whether a hard budget applies. */
  readonly hardBudget: boolean;
  /** The most the call may cost, where that is limited by itself. */
  readonly maxCostNanos?: NanoDollars | undefined;
}

/**
 * The most one call can cost. Where spending is limited, the output limit it rests on is also set upstream, as large as
 * still fits the context window and the call's own limit, so that the bound holds whatever the provider's default is.
 */
export function boundCall(
  request: ModelRequest,
  input: InputBound,
  model: CatalogueModel | undefined,
  { hardBudget, maxCostNanos }: SpendingRules,
): CallBound {
  const asked = outputLimit(request);
  const most = model?.maxOutputTokens ?? DEFAULT_MAX_OUTPUT_TOKENS;
  const room = model ? Math.max(1, Math.min(most, model.contextWindow - input.typicalTokens)) : most;
  const costAt = (limit: number): NanoDollars =>
    model
      ? maxCostOf(Math.min(input.maxTokens, model.contextWindow), limit * (request.n ?? 1), model.price, input.images)
      : 0;
  const inject = asked === undefined && (hardBudget || maxCostNanos !== undefined);
  const limit = asked ?? (inject ? largest(room, (tokens) => costAt(tokens) <= (maxCostNanos ?? Infinity)) : most);
  return { ...(inject && { injectedOutputLimit: limit }), maxCostNanos: costAt(limit) };
}

/** The largest number up to `most` that fits, by bisection; `most` itself if not even 1 does. */
function largest(most: number, fits: (tokens: number) => boolean): number {
  if (fits(most) || !fits(1)) return most;
  let low = 1;
  let high = most;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}
