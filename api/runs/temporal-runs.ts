import {
  Client,
  type ConnectionLike,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
} from '@temporalio/client';
import { ApplicationFailure, CancelledFailure, TerminatedFailure } from '@temporalio/common';
import { type ErrorInfo, HoldfastError, isErrorCode } from '../../domain/errors.ts';
import type { ModelCall } from '../../domain/model-call.ts';
import type { Priority } from '../../domain/rate-limit.ts';
import type { completion } from '../../workflows/completion.ts';
import { SEARCH_ATTRIBUTES } from '../../workflows/search-attributes.ts';

export interface TemporalRunsOptions {
  readonly connection: ConnectionLike;
  readonly namespace: string;
  readonly taskQueue: string;
  /** Whether the namespace knows the gateway's search attributes. */
  readonly searchable: boolean;
}

export interface NewRun {
  readonly id: string;
  readonly call: ModelCall;
  readonly team: string | null;
  readonly keyName: string;
  readonly modelRequested: string;
}

/** Milliseconds one start request may take. */
const START_TIMEOUT_MS = 5_000;
/** Milliseconds after which a start that got no answer is given up. */
const START_PATIENCE_MS = 15_000;

/** Where tasks pile up, Temporal hands out those of a lower key first; 1 to 5. */
const PRIORITY_KEYS: Readonly<Record<Priority, number>> = { interactive: 1, batch: 5 };

/** gRPC codes after which the start may or may not have happened: CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, ABORTED, UNAVAILABLE. */
const UNDECIDED_CODES: ReadonlySet<number> = new Set([1, 2, 4, 10, 14]);

/** The front door's side of Temporal: starts runs, cancels them, and asks for results the stream log did not bring. */
export class TemporalRuns {
  private readonly client: Client;
  private readonly options: TemporalRunsOptions;

  constructor(options: TemporalRunsOptions) {
    this.options = options;
    this.client = new Client({ connection: options.connection, namespace: options.namespace });
  }

  /**
   * Starts the run and resolves once Temporal acknowledged it: from then on it survives every crash. A start that got no
   * answer is repeated under the same id, so that it happens once. Throws `gateway_unavailable`.
   */
  async start(run: NewRun): Promise<void> {
    const giveUpAt = Date.now() + START_PATIENCE_MS;
    for (;;) {
      try {
        await this.client.withDeadline(Date.now() + START_TIMEOUT_MS, () => this.startOnce(run));
        return;
      } catch (error) {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return;
        const undecided = isGrpcServiceError(error) && UNDECIDED_CODES.has(error.code);
        if (!undecided || Date.now() > giveUpAt) throw temporalUnavailable(error);
      }
    }
  }

  /** Asks the run to stop; it settles what was used. A run that is over stays as it is. */
  async cancel(id: string): Promise<void> {
    try {
      await this.client.withDeadline(Date.now() + START_TIMEOUT_MS, () => this.client.workflow.getHandle(id).cancel());
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw temporalUnavailable(error);
    }
  }

  /** Waits until the run is over. Resolves with the error it ended with, or null for one that completed. */
  async outcome(id: string, signal: AbortSignal): Promise<ErrorInfo | null> {
    try {
      await this.client.withAbortSignal(signal, () => this.client.workflow.getHandle(id).result());
      return null;
    } catch (error) {
      if (error instanceof WorkflowFailedError) return errorInfoOf(error.cause);
      if (error instanceof WorkflowNotFoundError) return { code: 'caller_not_found', message: 'There is no such run.' };
      throw temporalUnavailable(error);
    }
  }

  /** Rejects when the server cannot be reached. */
  async ping(): Promise<void> {
    await this.client.withDeadline(Date.now() + START_TIMEOUT_MS, () => this.client.workflowService.getSystemInfo({}));
  }

  private startOnce({ id, call, team, keyName, modelRequested }: NewRun): Promise<unknown> {
    const { taskQueue, searchable } = this.options;
    const [target] = call.targets;
    return this.client.workflow.start<typeof completion>('completion', {
      workflowId: id,
      taskQueue,
      args: [{ call, searchable }],
      requestEagerStart: true,
      workflowTaskTimeout: '2 seconds',
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      priority: { priorityKey: PRIORITY_KEYS[call.admission.priority ?? 'interactive'] },
      staticSummary: `${modelRequested} for ${team ?? keyName}`,
      ...(searchable && {
        typedSearchAttributes: [
          ...(team ? [{ key: SEARCH_ATTRIBUTES.team, value: team }] : []),
          { key: SEARCH_ATTRIBUTES.key, value: keyName },
          { key: SEARCH_ATTRIBUTES.model, value: target?.model ?? modelRequested },
          ...(target ? [{ key: SEARCH_ATTRIBUTES.provider, value: target.provider }] : []),
        ],
      }),
    });
  }
}

const temporalUnavailable = (cause: unknown) =>
  new HoldfastError('gateway_unavailable', 'The gateway’s workflow engine cannot be reached. Try again shortly.', {
    retryAfterMs: 2_000,
    cause,
  });

function errorInfoOf(cause: Error | undefined): ErrorInfo {
  if (cause instanceof ApplicationFailure) {
    const [info] = (cause.details ?? []) as ErrorInfo[];
    if (info && isErrorCode(info.code)) return info;
  }
  if (cause instanceof CancelledFailure || cause instanceof TerminatedFailure) {
    return { code: 'gateway_cancelled', message: 'The request was cancelled by an operator.' };
  }
  return { code: 'gateway_internal', message: 'The gateway failed on this request. It has been logged.' };
}
