import { CancellationScope, proxyActivities } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { WEBHOOK_RETRY } from '../domain/webhook.ts';
import { announce } from './announce.ts';

const { firstMs, coefficient, maxMs, totalMs } = WEBHOOK_RETRY;

const { deliverWebhook } = proxyActivities<Pick<Activities, 'deliverWebhook'>>({
  // Above the longest `webhooks.timeout`.
  startToCloseTimeout: '90 seconds',
  scheduleToCloseTimeout: totalMs,
  retry: { initialInterval: firstMs, backoffCoefficient: coefficient, maximumInterval: maxMs },
  summary: 'webhook',
});

const { failWebhook } = proxyActivities<Pick<Activities, 'failWebhook'>>({
  startToCloseTimeout: '20 seconds',
  retry: { initialInterval: '1 second', maximumInterval: '1 minute' },
  summary: 'given up',
});

/**
 * Delivers a webhook, for up to a day until it is taken. Ends as failed, and the delivery with it, when the tries are used
 * up or there is no use in more.
 * @param send Which send of the delivery this is: the run's own, or one that was asked for later.
 */
export async function webhook(deliveryId: string, send = 1): Promise<'delivered' | 'obsolete'> {
  try {
    return await deliverWebhook(deliveryId, send);
  } catch (error) {
    await CancellationScope.nonCancellable(() => failWebhook(deliveryId, send));
    throw error;
  }
}

/** Delivers each webhook by a workflow of its own. */
export const announceWebhooks = (deliveryIds: readonly string[]): Promise<void> =>
  announce(webhook, deliveryIds, 'Deliver a webhook');
