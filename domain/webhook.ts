/** What a receiver is told about a run. */
export const WEBHOOK_EVENTS = [
  'run.completed',
  'run.failed',
  'run.cancelled',
  'run.input_required',
  'run.budget_exceeded',
  'approval.requested',
  'approval.reminder',
  'approval.escalated',
  'approval.decided',
] as const;

export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

/** `pending` until the receiver took it or the tries are used up. */
export const DELIVERY_STATES = ['pending', 'delivered', 'failed'] as const;

export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** Soon at first, then for a day, as https://www.standardwebhooks.com suggests. */
export const WEBHOOK_RETRY = {
  firstMs: 5_000,
  coefficient: 2,
  maxMs: 30 * 60_000,
  totalMs: 24 * 60 * 60_000,
} as const;

/** The longest time a receiver can ask for, so that its mistake does not use up the day. */
const MAX_RETRY_AFTER_MS = 6 * 60 * 60_000;

/** Milliseconds until a receiver that asked for time is asked again; never sooner than one that did not. */
export function retryDelayAsked(attempt: number, retryAfterMs: number): number {
  const { firstMs, coefficient, maxMs } = WEBHOOK_RETRY;
  const backoff = Math.min(firstMs * coefficient ** (attempt - 1), maxMs);
  return Math.min(Math.max(backoff, retryAfterMs), MAX_RETRY_AFTER_MS);
}
