import { createHash } from 'node:crypto';
import {
  Client,
  type ConnectionLike,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { ApplicationFailure, CancelledFailure, TerminatedFailure } from '@temporalio/common';
import type { ApprovalState, Vote } from '../../domain/approval.ts';
import { type ErrorInfo, HoldfastError, isErrorCode } from '../../domain/errors.ts';
import type { ModelCall } from '../../domain/model-call.ts';
import { outlineOf, type Pattern } from '../../domain/pipeline.ts';
import type { AgentMessageRef, PipelineInput } from '../../domain/pipeline-run.ts';
import type { Priority } from '../../domain/rate-limit.ts';
import { backgroundQueue } from '../../domain/task-queues.ts';
import type { BatchInput, batch } from '../../workflows/batch.ts';
import type { CompletionInput, completion } from '../../workflows/completion.ts';
import type { job } from '../../workflows/job.ts';
import { agentMessage, decide, pauseRun, type Resumption, resumeRun } from '../../workflows/messages.ts';
import type { pipeline } from '../../workflows/pipeline.ts';
import { buildIdsOf, SEARCH_ATTRIBUTES } from '../../workflows/search-attributes.ts';

export interface TemporalRunsOptions {
  readonly connection: ConnectionLike;
  readonly namespace: string;
  readonly taskQueue: string;
  /** Whether the namespace knows the gateway's search attributes. */
  readonly searchable: boolean;
  /** Of workers of this code; undefined where they are versioned, of which the server notes something else. */
  readonly buildId: string | undefined;
}

export interface NewRun {
  readonly id: string;
  readonly call: ModelCall;
  readonly team: string | null;
  readonly keyName: string;
  readonly modelRequested: string;
}

export interface NewJob extends NewRun {
  /** 1 (first) to 5. */
  readonly priority: number;
  /** Among whom the queue is shared fairly. */
  readonly tenant: string;
}

export interface NewBatchRun {
  readonly input: BatchInput;
  readonly endpoint: string;
  readonly team: string | null;
  readonly keyName: string;
  readonly priority: number;
  readonly tenant: string;
}

export interface NewPipelineRun {
  readonly input: PipelineInput;
  readonly team: string | null;
  readonly keyName: string;
  readonly priority: number;
  readonly tenant: string;
}

/** Workflow types. */
const PATTERN_WORKFLOWS: Readonly<Record<Pattern, string>> = {
  single: 'single',
  sequential: 'sequential',
  parallel: 'parallel',
  supervisor: 'supervisor',
  human_in_loop: 'humanInLoop',
};

/** Milliseconds one start request may take. */
const START_TIMEOUT_MS = 5_000;
/** Milliseconds that a run has to take what it is told: where its worker has died, another has to take over first. */
const UPDATE_TIMEOUT_MS = 15_000;
/** Milliseconds after which a start that got no answer is given up. */
const START_PATIENCE_MS = 15_000;

/** Where tasks pile up, Temporal hands out those of a lower key first; 1 to 5. */
const PRIORITY_KEYS: Readonly<Record<Priority, number>> = { interactive: 1, batch: 5 };

/** gRPC codes after which the start may or may not have happened: CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, ABORTED, UNAVAILABLE. */
const UNDECIDED_CODES: ReadonlySet<number> = new Set([1, 2, 4, 10, 14]);

/** The front door's side of Temporal: starts runs, cancels them, and asks for results the stream log did not bring. */
export class TemporalRuns {
  /** Whether the last start was answered: where not, nothing is worth beginning before the next one is. */
  answering = true;
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
  start(run: NewRun): Promise<void> {
    return this.surely(() => this.startOnce(run));
  }

  /** The same for a run in the background. */
  startJob(run: NewJob): Promise<void> {
    return this.surely(() => this.startJobOnce(run));
  }

  /** The same for a batch. */
  startBatch(run: NewBatchRun): Promise<void> {
    return this.surely(() => this.startBatchOnce(run));
  }

  /** The same for a pipeline. */
  startPipeline(run: NewPipelineRun): Promise<void> {
    return this.surely(() => this.startPipelineOnce(run));
  }

  /**
   * Has a run's workflow count a vote. Throws `caller_conflict` when it is decided already or the run is over, and
   * `caller_forbidden` where the voter may not decide.
   */
  decide(runId: string, vote: Vote): Promise<ApprovalState> {
    const args: [Vote] = [vote];
    return this.tell((deadline) =>
      this.client.withDeadline(deadline, () => this.client.workflow.getHandle(runId).executeUpdate(decide, { args })),
    );
  }

  /** Tells a run of a message for one of its agents. Throws `caller_conflict` when it is over. */
  message(runId: string, message: AgentMessageRef): Promise<void> {
    return this.tell((deadline) =>
      this.client.withDeadline(deadline, () => this.client.workflow.getHandle(runId).signal(agentMessage, message)),
    );
  }

  /** Nothing further of the run begins until it is resumed. Throws `caller_conflict` when it is over. */
  pause(id: string): Promise<void> {
    return this.tell((deadline) =>
      this.client.withDeadline(deadline, () => this.client.workflow.getHandle(id).executeUpdate(pauseRun)),
    );
  }

  /** Goes on with a paused run or one that a budget stopped. Throws `caller_conflict` when it is over. */
  resume(id: string, resumption: Resumption): Promise<void> {
    const args: [Resumption] = [resumption];
    return this.tell((deadline) =>
      this.client.withDeadline(deadline, () => this.client.workflow.getHandle(id).executeUpdate(resumeRun, { args })),
    );
  }

  private async tell<T>(update: (deadline: number) => Promise<T>): Promise<T> {
    try {
      return await update(Date.now() + UPDATE_TIMEOUT_MS);
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError) throw HoldfastError.from(errorInfoOf(error.cause));
      if (error instanceof WorkflowNotFoundError) throw new HoldfastError('caller_conflict', 'The run is over.');
      throw temporalUnavailable(error);
    }
  }

  private async surely(startOnce: () => Promise<unknown>): Promise<void> {
    const giveUpAt = Date.now() + START_PATIENCE_MS;
    for (;;) {
      try {
        await this.client.withDeadline(Date.now() + START_TIMEOUT_MS, startOnce);
        this.answering = true;
        return;
      } catch (error) {
        this.answering = error instanceof WorkflowExecutionAlreadyStartedError;
        if (this.answering) return;
        const undecided = isGrpcServiceError(error) && UNDECIDED_CODES.has(error.code);
        if (!undecided || Date.now() > giveUpAt) throw temporalUnavailable(error);
      }
    }
  }

  /** Asks the run to stop; it settles what was used. Returns false for a run that is over or was never started. */
  async cancel(id: string): Promise<boolean> {
    try {
      await this.client.withDeadline(Date.now() + START_TIMEOUT_MS, () => this.client.workflow.getHandle(id).cancel());
      return true;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return false;
      throw temporalUnavailable(error);
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

  private startOnce(run: NewRun): Promise<unknown> {
    return this.client.workflow.start<typeof completion>('completion', {
      ...this.common(run),
      taskQueue: this.options.taskQueue,
      requestEagerStart: true,
      // Its worker gives a sign of life after four fifths of this; `Calls.answerAtHand` is to be done by then.
      workflowTaskTimeout: '10 seconds',
      priority: { priorityKey: PRIORITY_KEYS[run.call.admission.priority ?? 'interactive'] },
    });
  }

  private startJobOnce(run: NewJob): Promise<unknown> {
    return this.client.workflow.start<typeof job>('job', {
      ...this.common(run),
      taskQueue: backgroundQueue(this.options.taskQueue),
      workflowTaskTimeout: '2 seconds',
      priority: { priorityKey: run.priority, fairnessKey: fairnessKeyOf(run.tenant) },
    });
  }

  private startBatchOnce({ input, endpoint, team, keyName, priority, tenant }: NewBatchRun): Promise<unknown> {
    return this.client.workflow.start<typeof batch>('batch', {
      workflowId: input.batchId,
      args: [input],
      taskQueue: backgroundQueue(this.options.taskQueue),
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      priority: { priorityKey: priority, fairnessKey: fairnessKeyOf(tenant) },
      staticSummary: `Batch of ${endpoint} for ${team ?? keyName}`,
      ...(this.options.searchable && {
        typedSearchAttributes: [
          ...(team ? [{ key: SEARCH_ATTRIBUTES.team, value: team }] : []),
          { key: SEARCH_ATTRIBUTES.key, value: keyName },
        ],
      }),
    });
  }

  private startPipelineOnce({ input, team, keyName, priority, tenant }: NewPipelineRun): Promise<unknown> {
    const { root } = input;
    return this.client.workflow.start<typeof pipeline>(PATTERN_WORKFLOWS[root.pattern], {
      workflowId: input.runId,
      args: [input],
      taskQueue: backgroundQueue(this.options.taskQueue),
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      priority: { priorityKey: priority, fairnessKey: fairnessKeyOf(tenant) },
      staticSummary: `${root.name} for ${team ?? keyName}`,
      staticDetails: outlineOf(root),
      // A dead worker's task is another's after this; a long history takes a while to go through.
      workflowTaskTimeout: '5 seconds',
      ...(this.options.searchable && {
        typedSearchAttributes: [
          ...(team ? [{ key: SEARCH_ATTRIBUTES.team, value: team }] : []),
          { key: SEARCH_ATTRIBUTES.key, value: keyName },
        ],
      }),
    });
  }

  private common({ id, call, team, keyName, modelRequested }: NewRun) {
    const { searchable, buildId } = this.options;
    const [target] = call.targets;
    return {
      workflowId: id,
      args: [{ call, searchable }] as [CompletionInput],
      workflowIdReusePolicy: 'REJECT_DUPLICATE' as const,
      staticSummary: `${modelRequested} for ${team ?? keyName}`,
      ...(searchable && {
        typedSearchAttributes: [
          ...(team ? [{ key: SEARCH_ATTRIBUTES.team, value: team }] : []),
          { key: SEARCH_ATTRIBUTES.key, value: keyName },
          { key: SEARCH_ATTRIBUTES.model, value: target?.model ?? modelRequested },
          ...(buildId ? [buildIdsOf(buildId)] : []),
          ...(target ? [{ key: SEARCH_ATTRIBUTES.provider, value: target.provider }] : []),
        ],
      }),
    };
  }
}

/** Temporal takes at most 64 bytes. */
const fairnessKeyOf = (tenant: string): string =>
  Buffer.byteLength(tenant) <= 64 ? tenant : createHash('sha256').update(tenant).digest('base64url');

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
