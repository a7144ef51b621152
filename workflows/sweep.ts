import { proxyActivities } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import type { SweepReport } from '../activities/sweep.ts';
import { announceBudgetAlerts } from './budget-alert.ts';
import { announceWebhooks } from './webhook.ts';

const activities = proxyActivities<Pick<Activities, 'sweep'>>({
  startToCloseTimeout: '5 minutes',
  retry: { initialInterval: '1 second', maximumInterval: '30 seconds', maximumAttempts: 5 },
  summary: 'open requests, counters',
});

/** Frees what was left reserved and compares counters with the ledger. Runs on a schedule. */
export async function sweep(): Promise<SweepReport> {
  const report = await activities.sweep();
  await announceBudgetAlerts(report.alerts);
  // Histories of before there were runs have none.
  await announceWebhooks(report.webhooks ?? []);
  return report;
}
