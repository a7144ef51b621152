import { type BatchInputDeps, createBatchInputActivities } from './batch-input.ts';
import { type BatchLineDeps, createBatchLineActivities } from './batch-lines.ts';
import { type BatchOutputDeps, createBatchOutputActivities } from './batch-output.ts';
import { type BatchedCallDeps, createBatchedCallActivities } from './batched-calls.ts';
import { type BudgetWebhookDeps, createBudgetWebhookActivities } from './budget-webhook.ts';
import { type CostReportDeps, createCostReportActivities } from './cost-report.ts';
import { type ApprovalDeps, createApprovalActivities } from './pipeline/approvals.ts';
import { createOutwardActivities, type OutwardDeps } from './pipeline/outward.ts';
import { createStepActivities, type StepDeps } from './pipeline/steps.ts';
import { createTurnActivities, type TurnDeps } from './pipeline/turns.ts';
import { createProviderBatchActivities, type ProviderBatchDeps } from './provider-batches.ts';
import { createProviderCallActivities, type ProviderCallDeps } from './provider-call.ts';
import { createQuotaActivities, type QuotaActivityDeps } from './quota.ts';
import { createRunStateActivities, type RunStateDeps } from './run-states.ts';
import { createSweepActivities, type SweepDeps } from './sweep.ts';
import { createWebhookActivities, type WebhookDeps } from './webhook.ts';

export type ActivityDeps = ProviderCallDeps &
  BatchedCallDeps &
  RunStateDeps &
  QuotaActivityDeps &
  SweepDeps &
  BatchInputDeps &
  BatchLineDeps &
  BatchOutputDeps &
  ProviderBatchDeps &
  BudgetWebhookDeps &
  WebhookDeps &
  StepDeps &
  TurnDeps &
  OutwardDeps &
  ApprovalDeps &
  CostReportDeps;

/** Everything a workflow may ask the world to do. */
export const createActivities = (deps: ActivityDeps) => ({
  ...createQuotaActivities(deps),
  ...createProviderCallActivities(deps),
  ...createBatchedCallActivities(deps),
  ...createRunStateActivities(deps),
  ...createBatchInputActivities(deps),
  ...createBatchLineActivities(deps),
  ...createBatchOutputActivities(deps),
  ...createProviderBatchActivities(deps),
  ...createStepActivities(deps),
  ...createTurnActivities(deps),
  ...createOutwardActivities(deps),
  ...createApprovalActivities(deps),
  ...createCostReportActivities(deps),
  ...createSweepActivities(deps),
  ...createBudgetWebhookActivities(deps),
  ...createWebhookActivities(deps),
});

export type Activities = ReturnType<typeof createActivities>;
