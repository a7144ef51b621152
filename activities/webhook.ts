import { Context } from '@temporalio/activity';
import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common';
import { retryDelayAsked } from '../domain/webhook.ts';
import type { Webhooks } from '../storage/postgres/webhooks.ts';
import type { AddressPolicy } from './address-policy.ts';
import type { Posted } from './post-json.ts';
import { describePosted, sendWebhook, wasTaken } from './send-webhook.ts';

export interface WebhookDeps {
  readonly webhooks: Webhooks;
  readonly webhookAddresses: AddressPolicy;
  /** Milliseconds a receiver has to answer. */
  readonly webhookTimeoutMs: number;
}

/** The receiver has gone for good. */
const GONE = 410;

/** Tells receivers of runs what became of them, at least once. */
export function createWebhookActivities({ webhooks, webhookAddresses, webhookTimeoutMs }: WebhookDeps) {
  return {
    /** Tries a delivery once and journals how it went. Anything but a 2xx is tried again, unless the receiver is gone. */
    async deliverWebhook(deliveryId: string, send: number): Promise<'delivered' | 'obsolete'> {
      const message = await webhooks.open(deliveryId, send);
      if (!message) return 'obsolete';
      const at = new Date();
      const posted = await sendWebhook(message, { timeoutMs: webhookTimeoutMs, addresses: webhookAddresses });
      const delivered = wasTaken(posted);
      await webhooks.journal(deliveryId, {
        at,
        status: posted.outcome === 'answered' ? posted.status : null,
        error: posted.outcome === 'answered' ? null : posted.reason,
        latencyMs: Date.now() - at.getTime(),
        delivered,
      });
      if (delivered) return 'delivered';
      throw undelivered(posted);
    },

    /** Ends a delivery that is not tried again. */
    async failWebhook(deliveryId: string, send: number): Promise<void> {
      await webhooks.fail(deliveryId, send);
    },
  };
}

function undelivered(posted: Posted): ApplicationFailure {
  const asked = posted.outcome === 'answered' ? posted.retryAfterMs : undefined;
  return ApplicationFailure.create({
    message: `The receiver did not take the webhook: ${describePosted(posted)}`,
    type: 'webhook_undelivered',
    nonRetryable: posted.outcome === 'refused' || (posted.outcome === 'answered' && posted.status === GONE),
    ...(asked !== undefined && { nextRetryDelay: retryDelayAsked(Context.current().info.attempt, asked) }),
    // The receiver's doing, not the worker's.
    category: ApplicationFailureCategory.BENIGN,
  });
}
