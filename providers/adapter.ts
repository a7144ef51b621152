import type { ProviderConfig } from '../config/gateway-schema.ts';
import type { ModelAnswer, ModelRequest, StreamEvent } from '../domain/chat.ts';
import type { LimitReport } from '../domain/provider-limits.ts';
import type { RoutableProvider } from '../domain/route-plan.ts';
import type { ProviderBatches } from './batches.ts';
import type { Credential } from './credentials.ts';

export type ProviderType = ProviderConfig['type'];

/** A provider's model, and how much of it is asked for. */
export interface ModelTarget {
  /** The id the provider's API expects. */
  readonly model: string;
  /** Output limit in tokens that must be set upstream where the request has none. */
  readonly outputLimit?: number | undefined;
  /** The most the model can put out, for APIs that demand a limit. */
  readonly maxOutputTokens: number;
}

/** One call to one model. */
export interface ProviderCall extends ModelTarget {
  /** Aborts the call on cancel, timeout and deadline. */
  readonly signal: AbortSignal;
  /** Which call to this target it is, from 1. */
  readonly attempt: number;
  /** The key for this call; undefined for the one the provider was configured with. */
  readonly credential?: Credential | undefined;
  /** Gets what the answer, or the refusal, says about the provider's own limits. */
  readonly onLimits?: (report: LimitReport) => void;
}

/**
 * A provider behind one shape. Adapters translate and nothing else: no retries, no waiting, no accounting. They throw
 * `ProviderError`, and after an abort whatever the SDK throws.
 */
export interface ProviderAdapter extends RoutableProvider {
  readonly type: ProviderType;
  /** The class-like name of seed responses, e.g. `AnthropicProvider`. */
  readonly label: string;
  readonly region?: string;
  /** Set when it was configured without a key of its own: every call needs a stored one. */
  readonly storedKeysOnly?: boolean;
  /** Milliseconds for the whole answer, or for the next event of a stream. */
  readonly timeoutMs: number;
  /** Calls per request, including the first. */
  readonly maxAttempts: number;
  /** Its own batch API, where it has one. */
  readonly batches?: ProviderBatches;

  complete(request: ModelRequest, call: ProviderCall): Promise<ModelAnswer>;
  stream(request: ModelRequest, call: ProviderCall): AsyncIterable<StreamEvent>;
  /** Reaches the provider without generating anything; throws `ProviderError` when it cannot be used. */
  probe(signal: AbortSignal, credential?: Credential): Promise<void>;
}
