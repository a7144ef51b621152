import { type CostReportDeps, createCostReportActivities } from './cost-report.ts';
import { createProviderCallActivities, type ProviderCallDeps } from './provider-call.ts';
import { createQuotaActivities, type QuotaDeps } from './quota.ts';

export type ActivityDeps = ProviderCallDeps & QuotaDeps & CostReportDeps;

/** Everything a workflow may ask the world to do. */
export const createActivities = (deps: ActivityDeps) => ({
  ...createQuotaActivities(deps),
  ...createProviderCallActivities(deps),
  ...createCostReportActivities(deps),
});

export type Activities = ReturnType<typeof createActivities>;
