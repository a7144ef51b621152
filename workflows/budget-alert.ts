import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { ParentClosePolicy, proxyActivities, startChild } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';

const { deliverBudgetAlert } = proxyActivities<Pick<Activities, 'deliverBudgetAlert'>>({
  startToCloseTimeout: '30 seconds',
  scheduleToCloseTimeout: '24 hours',
  retry: { initialInterval: '2 seconds', maximumInterval: '10 minutes' },
  summary: 'budget webhook',
});

/** Tells the budget webhook of one alert, for up to a day until it is taken. */
export const budgetAlert = (alertId: string): Promise<string> => deliverBudgetAlert(alertId);

/** Alerts are delivered by workflows of their own, so that the one that caused them closes at once. */
export async function announceBudgetAlerts(alertIds: readonly string[]): Promise<void> {
  for (const alertId of alertIds) {
    try {
      await startChild(budgetAlert, {
        args: [alertId],
        workflowId: alertId,
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: 'Deliver a budget alert',
      });
    } catch (error) {
      // This workflow was reset; the alert is on its way already.
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }
}
