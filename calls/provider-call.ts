import { StreamAccumulator } from '../domain/accumulator.ts';
import type { ModelAnswer, ModelRequest } from '../domain/chat.ts';
import { HoldfastError, toHoldfastError } from '../domain/errors.ts';
import type { CallTarget } from '../domain/model-call.ts';
import type { NanoDollars, Usage } from '../domain/money.ts';
import type { LimitReport } from '../domain/provider-limits.ts';
import type { ProviderAdapter } from '../providers/adapter.ts';
import type { Credential } from '../providers/credentials.ts';
import { ProviderError } from '../providers/errors.ts';
import { CallClock } from './clock.ts';
import { abortReason } from './patience.ts';
import type { StreamWriter } from './stream-writer.ts';
import { account, countUsage, priced } from './usage.ts';

export interface ProviderCallOptions {
  readonly adapter: ProviderAdapter;
  readonly request: ModelRequest;
  readonly target: CallTarget;
  readonly attempt: number;
  /** undefined for what the provider was configured with. */
  readonly credential: Credential | undefined;
  readonly deadlineAt: number;
  readonly signal: AbortSignal;
  /** Where deltas go; undefined for a call that does not stream. */
  readonly writer: StreamWriter | undefined;
  readonly onLimits: (report: LimitReport) => void;
}

export type CallEnd =
  | {
      readonly state: 'succeeded';
      readonly answer: ModelAnswer;
      readonly usage: Usage;
      readonly costNanos: NanoDollars;
      readonly cacheSavingsNanos: NanoDollars;
    }
  | {
      readonly state: 'failed' | 'cancelled' | 'unknown';
      readonly error: HoldfastError;
      readonly usage: Usage | null;
      readonly costNanos: NanoDollars;
      readonly cacheSavingsNanos: NanoDollars;
    };

/** Makes one call to a provider and says how it ended and what it cost. Never throws. */
export async function callProvider(options: ProviderCallOptions): Promise<CallEnd> {
  const { adapter, target, signal, deadlineAt } = options;
  const clock = new CallClock(signal, target.provider, target.timeoutMs, deadlineAt);
  const accumulator = new StreamAccumulator();
  try {
    const answer = options.writer
      ? await streamed(options, options.writer, clock, accumulator)
      : await adapter.complete(options.request, callOf(options, clock.signal));
    clock.stop();
    return { state: 'succeeded', answer, ...(await account(options.request, answer, options.target.price)) };
  } catch (thrown) {
    clock.stop();
    return failedEnd(options, clock, accumulator, thrown);
  }
}

const callOf = ({ target, attempt, credential, onLimits }: ProviderCallOptions, signal: AbortSignal) => ({
  model: target.model,
  outputLimit: target.outputLimit,
  maxOutputTokens: target.maxOutputTokens,
  signal,
  attempt,
  credential,
  onLimits,
});

async function streamed(
  options: ProviderCallOptions,
  writer: StreamWriter,
  clock: CallClock,
  accumulator: StreamAccumulator,
): Promise<ModelAnswer> {
  const { adapter, request, target } = options;
  for await (const event of adapter.stream(request, callOf(options, clock.signal))) {
    clock.renew();
    accumulator.add(event);
    if (event.type === 'delta') {
      writer.push({ type: 'delta', provider: target.provider, model: target.model, choices: event.choices });
    }
    if (writer.outranked) throw new HoldfastError('gateway_unavailable', 'A later attempt took over.');
  }
  // SDKs end an aborted stream as if it were complete.
  if (clock.signal.aborted || !accumulator.finished) {
    throw new ProviderError('provider_network', `${target.provider}: the stream ended early`, { maybeBilled: true });
  }
  await writer.flush();
  return accumulator.answer();
}

async function failedEnd(
  options: ProviderCallOptions,
  clock: CallClock,
  accumulator: StreamAccumulator,
  thrown: unknown,
): Promise<CallEnd> {
  const { request, target, signal } = options;
  const error = clock.cancelled ? abortReason(signal) : (clock.expiry ?? toHoldfastError(thrown));
  const state = clock.cancelled ? 'cancelled' : 'failed';
  // What a cut stream delivered can be counted; the provider was paid for it.
  if (accumulator.usage || accumulator.text) {
    const usage = await countUsage(request, accumulator.text, accumulator.usage);
    return { state, error, ...priced(usage, request, target.price) };
  }
  const maybeBilled = clock.signal.aborted || (thrown instanceof ProviderError && thrown.maybeBilled);
  const nothing = { error, usage: null, cacheSavingsNanos: 0 };
  return maybeBilled
    ? { state: 'unknown', ...nothing, costNanos: target.maxCostNanos }
    : { state, ...nothing, costNanos: 0 };
}
