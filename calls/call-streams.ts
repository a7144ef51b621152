import type { Logger } from 'pino';
import { type ErrorInfo, HoldfastError } from '../domain/errors.ts';
import type { TargetCall } from '../domain/model-call.ts';
import { epochOf, RUN_EPOCH, type StreamItem } from '../domain/stream-item.ts';
import type { Runs } from '../storage/postgres/runs.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';
import { CallFailed } from './call-failed.ts';
import { retryWhileUnreachable } from './patience.ts';
import { StreamWriter } from './stream-writer.ts';

export interface CallStreamsDeps {
  /** Of requests whose caller waits: a cache. */
  readonly streams: StreamLog;
  /** Of runs in the background: in Postgres. */
  readonly journal: StreamLog;
  readonly runs: Pick<Runs, 'transition'>;
  readonly logger: Logger;
}

/** What those who wait for a call are shown of it. */
export class CallStreams {
  private readonly deps: CallStreamsDeps;

  constructor(deps: CallStreamsDeps) {
    this.deps = deps;
  }

  /** The call is about to be made. */
  async started({ background, requestId }: TargetCall): Promise<void> {
    if (background) await this.deps.runs.transition(requestId, { state: 'running' });
  }

  /** Where its deltas go; undefined for a call that does not stream. */
  writer(call: TargetCall, n: number): StreamWriter | undefined {
    if (!call.stream) return undefined;
    const { requestId: id, background: lossless = false } = call;
    const onError = (error: unknown) => this.warn(call, error);
    return new StreamWriter({ log: this.logOf(call), id, epoch: epochOf(call, n), onError, lossless });
  }

  /** The answer, unless its readers are told by the run itself once it is settled. */
  async completed(call: TargetCall, n: number, item: Extract<StreamItem, { type: 'completed' }>): Promise<void> {
    if (call.background) return;
    // The log is a cache: the front door reads the journal when the log is silent.
    await this.deps.streams
      .append(call.requestId, epochOf(call, n), [item])
      .catch((error: unknown) => this.warn(call, error));
  }

  /** The run was cancelled while another process makes its call for a caller who waits. */
  async cancelled(call: TargetCall, error: HoldfastError): Promise<void> {
    if (call.background) return;
    const item = { type: 'failed', error: error.info } as const;
    await this.deps.streams
      .append(call.requestId, RUN_EPOCH, [item])
      .catch((thrown: unknown) => this.warn(call, thrown));
  }

  /** Before call `n`: a caller who saw part of one answer is never shown another. */
  async refuseBroken(call: TargetCall, n: number, error: ErrorInfo | null | undefined): Promise<void> {
    if (!call.stream || !error) return;
    const length = this.logOf(call).length(call.requestId);
    // Where the log is more than a cache, nothing goes on before it can be told.
    const shown = await (call.background ? length : length.catch(() => 0));
    if (shown > 0) await this.breakOff(call, n, error);
  }

  /** The stream broke. Throws `CallFailed`, unless the run goes on because its answer can be fetched later. */
  async breakOff(call: TargetCall, n: number, cause: ErrorInfo): Promise<void> {
    const error = new HoldfastError('provider_stream_interrupted', `The stream broke off: ${cause.message}`);
    const item = { type: 'interrupted', error: error.info } as const;
    const append = () => this.logOf(call).append(call.requestId, epochOf(call, n), [item]);
    if (call.background) await retryWhileUnreachable(append, this.deps.logger);
    else await append().catch((thrown: unknown) => this.warn(call, thrown));
    if (!call.resumable) throw new CallFailed(error);
  }

  private logOf({ background }: TargetCall): StreamLog {
    return background ? this.deps.journal : this.deps.streams;
  }

  private warn({ requestId }: TargetCall, error: unknown): void {
    this.deps.logger.warn({ err: error, run: requestId }, 'Stream log failed');
  }
}
