import { proxyActivities } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { announce } from './announce.ts';

const { deliverBudgetAlert } = proxyActivities<Pick<Activities, 'deliverBudgetAlert'>>({
  // Above the longest `webhooks.timeout`.
  startToCloseTimeout: '90 seconds',
  scheduleToCloseTimeout: '24 hours',
  retry: { initialInterval: '2 seconds', maximumInterval: '10 minutes' },
  summary: 'budget webhook',
});

/** Tells the budget webhook of one alert, for up to a day until it is taken. */
export const budgetAlert = (alertId: string): Promise<string> => deliverBudgetAlert(alertId);

/** Delivers each alert by a workflow of its own. */
export const announceBudgetAlerts = (alertIds: readonly string[]): Promise<void> =>
  announce(budgetAlert, alertIds, 'Deliver a budget alert');
