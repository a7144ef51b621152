import { type BatchedCallDeps, createBatchedCallActivities } from './batched-calls.ts';
import { type BudgetWebhookDeps, createBudgetWebhookActivities } from './budget-webhook.ts';
import { type CostReportDeps, createCostReportActivities } from './cost-report.ts';
import { createProviderCallActivities, type ProviderCallDeps } from './provider-call.ts';
import { createQuotaActivities, type QuotaDeps } from './quota.ts';
import { createRunStateActivities, type RunStateDeps } from './run-states.ts';
import { createSweepActivities, type SweepDeps } from './sweep.ts';
import { createWebhookActivities, type WebhookDeps } from './webhook.ts';

export type ActivityDeps = ProviderCallDeps &
  BatchedCallDeps &
  RunStateDeps &
  QuotaDeps &
  SweepDeps &
  BudgetWebhookDeps &
  WebhookDeps &
  CostReportDeps;

/** Everything a workflow may ask the world to do. */
export const createActivities = (deps: ActivityDeps) => ({
  ...createQuotaActivities(deps),
  ...createProviderCallActivities(deps),
  ...createBatchedCallActivities(deps),
  ...createRunStateActivities(deps),
  ...createCostReportActivities(deps),
  ...createSweepActivities(deps),
  ...createBudgetWebhookActivities(deps),
  ...createWebhookActivities(deps),
});

export type Activities = ReturnType<typeof createActivities>;
