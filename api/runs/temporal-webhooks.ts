import { Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { HoldfastError } from '../../domain/errors.ts';
import type { webhook } from '../../workflows/webhook.ts';
import type { TemporalRunsOptions } from './temporal-runs.ts';

/** Milliseconds one start request may take. */
const START_TIMEOUT_MS = 5_000;

/** Sends webhooks again. */
export class TemporalWebhooks {
  private readonly client: Client;
  private readonly taskQueue: string;

  constructor({ connection, namespace, taskQueue }: Omit<TemporalRunsOptions, 'buildId'>) {
    this.client = new Client({ connection, namespace });
    this.taskQueue = taskQueue;
  }

  /** Starts a send of a delivery. Throws `caller_conflict` while it is under way, `gateway_unavailable`. */
  async start(deliveryId: string, send: number): Promise<void> {
    try {
      await this.client.withDeadline(Date.now() + START_TIMEOUT_MS, () =>
        this.client.workflow.start<typeof webhook>('webhook', {
          workflowId: workflowIdOf(deliveryId, send),
          taskQueue: this.taskQueue,
          args: [deliveryId, send],
          staticSummary: 'Deliver a webhook again',
        }),
      );
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) {
        throw new HoldfastError('caller_conflict', `The webhook delivery '${deliveryId}' is under way.`);
      }
      throw new HoldfastError('gateway_unavailable', 'The webhook cannot be sent right now. Try again shortly.', {
        retryAfterMs: 2_000,
        cause: error,
      });
    }
  }
}

/** The run announces the first send under the delivery's id. */
const workflowIdOf = (deliveryId: string, send: number): string =>
  send === 1 ? deliveryId : `${deliveryId}-resend-${send - 1}`;
