import type { ModelAnswer, ModelRequest } from '../domain/chat.ts';
import { type ErrorInfo, HoldfastError } from '../domain/errors.ts';
import type { ModelTarget } from './adapter.ts';
import type { Credential } from './credentials.ts';
import { ProviderError } from './errors.ts';

/** One request of a batch. */
export interface BatchLine extends ModelTarget {
  /** Comes back with the answer. Unique in its batch; 1 to 64 letters, digits, `_` and `-`, which is what all APIs take. */
  readonly id: string;
  readonly request: ModelRequest;
}

/** What every call needs. All calls for one batch need keys of the account (project, workspace) it was submitted with. */
export interface BatchCall {
  /** Aborts the call, not the batch. */
  readonly signal: AbortSignal;
  /** The key for this call; undefined for the one the provider was configured with. */
  readonly credential?: Credential | undefined;
}

export interface BatchSubmission extends BatchCall {
  /** Names the batch, see `find`; at most 512 characters. A batch that is submitted once more on purpose needs another. */
  readonly key: string;
}

/** All but `running` are final. A batch that `failed` was refused as a whole: no line of it ran or has a result. */
export type BatchState = 'running' | 'ended' | 'failed' | 'expired' | 'cancelled';

export interface BatchStatus {
  readonly state: BatchState;
  /** Lines of the batch; 0 as long as the provider has not counted them. */
  readonly total: number;
  /** Lines that have an end; some providers count them only when all have. */
  readonly done: number;
  /** Why it `failed`. */
  readonly error?: ErrorInfo;
}

export type BatchLineEnd =
  | { readonly id: string; readonly answer: ModelAnswer }
  | { readonly id: string; readonly error: ProviderError };

/**
 * A provider's batch API behind one shape. Like an adapter it only translates: every function is one short call without
 * memory, retries or waiting, and throws `ProviderError`.
 */
export interface ProviderBatches {
  /** The most lines one batch may have. */
  readonly maxLines: number;
  /** The most bytes one batch may have, by `bytesOf`. */
  readonly maxBytes: number;
  /**
   * What a line adds to the size of its batch.
   * @throws {HoldfastError} the line's request cannot be translated; `submit` would refuse all lines for it.
   */
  bytesOf(line: BatchLine): number;
  /**
   * Submits lines that all go to the same model. After an error that is `maybeBilled` the batch may exist.
   * @throws {HoldfastError} as `bytesOf`, or `gateway_internal` for lines that make no batch.
   */
  submit(lines: readonly BatchLine[], submission: BatchSubmission): Promise<{ readonly id: string }>;
  /**
   * The batch that an earlier `submit` with this key made, if there is one. A submit whose answer was lost may become
   * visible a moment later. Not there at all where the API cannot tell: submitting again may then pay twice.
   */
  find?(key: string, call: BatchCall): Promise<{ readonly id: string } | undefined>;
  status(id: string, call: BatchCall): Promise<BatchStatus>;
  /**
   * The ends of the lines of a batch in a final state, in any order, read as they are taken. Starts over each time.
   * Lines that did not come to run may be missing.
   */
  results(id: string, call: BatchCall): AsyncIterable<BatchLineEnd>;
  /** Asks for the end of a batch; `status` tells when it is there. Does nothing to a batch that has ended. */
  cancel(id: string, call: BatchCall): Promise<void>;
}

/**
 * The APIs take 200 MB (OpenAI) and 256 MB (Anthropic). But a batch is in memory as objects, as JSON and as bytes while it
 * is submitted, beside others, and in two batches it costs the same.
 */
export const MAX_BATCH_BYTES = 32_000_000;

const LINE_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** @throws {HoldfastError} `gateway_internal`: the lines are more than one batch, or one that providers would refuse. */
export function checkLines(lines: readonly BatchLine[], maxLines: number): void {
  const problem = problemOf(lines, maxLines);
  if (problem) throw new HoldfastError('gateway_internal', `These lines make no batch: ${problem}.`);
}

function problemOf(lines: readonly BatchLine[], maxLines: number): string | undefined {
  if (lines.length === 0) return 'there are none';
  if (lines.length > maxLines) return `${lines.length} are more than ${maxLines}`;
  const invalid = lines.find(({ id }) => !LINE_ID.test(id));
  if (invalid) return `'${invalid.id}' is not an id that providers take`;
  if (new Set(lines.map(({ id }) => id)).size < lines.length) return 'an id occurs twice';
  // OpenAI's rule (`mismatched_model`).
  return new Set(lines.map(({ model }) => model)).size > 1 ? 'they name several models' : undefined;
}

/** A 404 of a batch API means a batch, a file or the API itself, never a model. */
export const batchFailure = (error: ProviderError): ProviderError =>
  error.providerStatus === 404 ? new ProviderError('provider_invalid_request', error.message, error.info) : error;

export const expiredLine = (provider: string): ProviderError =>
  new ProviderError('provider_timeout', `${provider}: the batch expired before this request was answered`);

export const cancelledLine = (provider: string): ProviderError =>
  new ProviderError('gateway_cancelled', `${provider}: the batch was cancelled before this request was answered`);
