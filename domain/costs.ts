import { z } from 'zod';
import { REPORT_PERIODS } from './report-period.ts';

/** What a group of settled requests used and cost; money in dollars. */
export const costFigures = z.object({
  requests: z.number(),
  failures: z.number(),
  prompt_tokens: z.number(),
  completion_tokens: z.number(),
  cached_tokens: z.number(),
  cost_usd: z.number(),
  /** The cost with each team's markup. */
  billed_usd: z.number(),
  /** Part of the cost: calls of which nobody can say whether they were billed, at their maximum. */
  unknown_usd: z.number(),
  /** What cached input tokens would have cost more at the full input price. */
  cache_savings_usd: z.number(),
});

export type CostFigures = z.infer<typeof costFigures>;

/** `group` is null for requests that have no such value. */
export const costGroup = costFigures.extend({ group: z.string().nullable() });

export type CostGroup = z.infer<typeof costGroup>;

/** What costs can be summed up by. */
export const COST_GROUPS = [
  'key',
  'user',
  'team',
  'project',
  'organisation',
  'feature',
  'workflow',
  'model',
  'provider',
  'day',
] as const;

export type CostGroupBy = (typeof COST_GROUPS)[number];

export const costReportData = z.object({
  total: costFigures.extend({ markup_usd: z.number() }),
  /** Against the period before; `cost_percent` is null when that cost nothing. */
  change: z.object({
    cost_usd: z.number(),
    cost_percent: z.number().nullable(),
    billed_usd: z.number(),
    requests: z.number(),
  }),
  by_organisation: z.array(costGroup),
  by_team: z.array(costGroup),
  by_model: z.array(costGroup),
  by_provider: z.array(costGroup),
  /** The dearest keys. */
  top_keys: z.array(costGroup),
});

export type CostReportData = z.infer<typeof costReportData>;

export const costReport = z.object({
  id: z.string(),
  period: z.enum(REPORT_PERIODS),
  since: z.date(),
  until: z.date(),
  created_at: z.date(),
  data: costReportData,
});

export type CostReport = z.infer<typeof costReport>;
