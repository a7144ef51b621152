import { ApplicationFailure } from '@temporalio/common';
import { toDollars } from '../domain/money.ts';
import { type BudgetAlert, budgetAlerts } from '../storage/postgres/budget-alerts.ts';
import type { Sql } from '../storage/postgres/database.ts';
import { ANY_ADDRESS } from './address-policy.ts';
import { describePosted, sendWebhook, wasTaken } from './send-webhook.ts';

export interface BudgetWebhook {
  readonly url: string;
  /** Signs deliveries by the Standard Webhooks specification: `whsec_` and base64. */
  readonly secret: string | undefined;
}

export interface BudgetWebhookDeps {
  readonly db: Sql;
  /** undefined: nobody is told. */
  readonly budgetWebhook: BudgetWebhook | undefined;
  /** Milliseconds a receiver has to answer. */
  readonly webhookTimeoutMs: number;
}

/** Tells the configured receiver that a budget passed a threshold. Anything but a 2xx is tried again. */
export function createBudgetWebhookActivities({ db, budgetWebhook, webhookTimeoutMs }: BudgetWebhookDeps) {
  return {
    async deliverBudgetAlert(alertId: string): Promise<'delivered' | 'obsolete'> {
      const [alert] = await budgetAlerts(db, [alertId]);
      if (!alert || !budgetWebhook) return 'obsolete';
      const message = { ...budgetWebhook, id: alert.id, body: JSON.stringify(toEvent(alert)) };
      // The operator's own URL, and often one of an internal network.
      const posted = await sendWebhook(message, { timeoutMs: webhookTimeoutMs, addresses: ANY_ADDRESS });
      if (!wasTaken(posted)) throw undelivered(describePosted(posted));
      return 'delivered';
    },
  };
}

const undelivered = (reason: string) =>
  ApplicationFailure.retryable(`The budget webhook did not take the alert: ${reason}.`, 'webhook_undelivered');

const toEvent = (alert: BudgetAlert) => ({
  type: 'budget.threshold_reached',
  timestamp: alert.createdAt.toISOString(),
  data: {
    budget_id: alert.budgetId,
    scope: alert.scope,
    period: alert.period,
    period_start: alert.periodStart,
    kind: alert.kind,
    threshold_percent: alert.threshold,
    spent_usd: toDollars(alert.spentNanos),
    limit_usd: toDollars(alert.limitNanos),
  },
});
