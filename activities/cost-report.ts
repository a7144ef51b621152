import type { CostReportData } from '../domain/costs.ts';
import { fromDollars, toDollars } from '../domain/money.ts';
import { before, type ReportRange } from '../domain/report-period.ts';
import type { CostReports } from '../storage/postgres/cost-reports.ts';
import type { Costs } from '../storage/postgres/costs.ts';

export interface CostReportDeps {
  readonly costs: Costs;
  readonly costReports: CostReports;
}

const TOP_KEYS = 20;

export function createCostReportActivities({ costs, costReports }: CostReportDeps) {
  return {
    /** Computes the report of a period from the ledger and stores it, unless the period has one. */
    async makeCostReport(range: ReportRange): Promise<void> {
      await costReports.store(range, await compute(costs, range));
    },
  };
}

async function compute(costs: Costs, range: ReportRange): Promise<CostReportData> {
  const filter = filterOf(range);
  const { total, groups: byKey } = await costs.summary('key', filter);
  const { groups: by_organisation } = await costs.summary('organisation', filter);
  const { groups: by_team } = await costs.summary('team', filter);
  const { groups: by_model } = await costs.summary('model', filter);
  const { groups: by_provider } = await costs.summary('provider', filter);
  const { total: previous } = await costs.summary('day', filterOf(before(range)));
  return {
    total: { ...total, markup_usd: difference(total.billed_usd, total.cost_usd) },
    change: {
      cost_usd: difference(total.cost_usd, previous.cost_usd),
      cost_percent: previous.cost_usd > 0 ? (total.cost_usd / previous.cost_usd - 1) * 100 : null,
      billed_usd: difference(total.billed_usd, previous.billed_usd),
      requests: total.requests - previous.requests,
    },
    by_organisation: [...by_organisation],
    by_team: [...by_team],
    by_model: [...by_model],
    by_provider: [...by_provider],
    top_keys: byKey.slice(0, TOP_KEYS),
  };
}

/** Exact to the nano-dollar, which floating-point dollars are not. */
const difference = (a: number, b: number): number => toDollars(fromDollars(a) - fromDollars(b));

const filterOf = ({ since, until }: ReportRange) => ({ since: new Date(since), until: new Date(until) });
