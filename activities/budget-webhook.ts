import { ApplicationFailure } from '@temporalio/common';
import { Webhook } from 'standardwebhooks';
import { toDollars } from '../domain/money.ts';
import { type BudgetAlert, budgetAlerts } from '../storage/postgres/budget-alerts.ts';
import type { Sql } from '../storage/postgres/database.ts';

export interface BudgetWebhook {
  readonly url: string;
  /** Signs deliveries by the Standard Webhooks specification: `whsec_` and base64. */
  readonly secret: string | undefined;
}

export interface BudgetWebhookDeps {
  readonly db: Sql;
  /** undefined: nobody is told. */
  readonly budgetWebhook: BudgetWebhook | undefined;
}

/** Milliseconds a receiver has to answer. */
const TIMEOUT_MS = 10_000;

/** Tells the configured receiver that a budget passed a threshold. Anything but a 2xx is tried again. */
export function createBudgetWebhookActivities({ db, budgetWebhook }: BudgetWebhookDeps) {
  return {
    async deliverBudgetAlert(alertId: string): Promise<'delivered' | 'obsolete'> {
      const [alert] = await budgetAlerts(db, [alertId]);
      if (!alert || !budgetWebhook) return 'obsolete';
      const body = JSON.stringify(toEvent(alert));
      const now = new Date();
      const { url, secret } = budgetWebhook;
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
        headers: {
          'content-type': 'application/json',
          'webhook-id': alert.id,
          'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
          ...(secret && { 'webhook-signature': new Webhook(secret).sign(alert.id, now, body) }),
        },
        body,
      }).catch((error: Error) => {
        throw undelivered(`no answer (${error.name})`);
      });
      await response.body?.cancel();
      if (!response.ok) throw undelivered(`status ${response.status}`);
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
