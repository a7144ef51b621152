import { announceWebhooks } from '../../workflows/webhook.ts';

export { webhook } from '../../workflows/webhook.ts';

/** A run of which there is nothing but its announcement. */
export const announcing = (deliveryIds: readonly string[]): Promise<void> => announceWebhooks(deliveryIds);
