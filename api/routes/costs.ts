import { z } from 'zod';
import { COST_GROUPS, costFigures, costGroup } from '../../domain/costs.ts';
import { forecastMonth } from '../../domain/forecast.ts';
import { toDollars } from '../../domain/money.ts';
import { rangeAt } from '../../domain/report-period.ts';
import { visibleTo } from '../auth/caller.ts';
import { instant } from '../schemas/common.ts';
import type { Routes } from './route.ts';

/** Running periods that can be summed up where `since` is not given. */
const PERIODS = { day: 'daily', week: 'weekly', month: 'monthly' } as const;

const filters = z.object({
  key: z.string().optional(),
  user: z.string().optional(),
  team: z.string().optional(),
  project: z.string().optional(),
  organisation: z.string().optional(),
  feature: z.string().optional(),
  workflow: z.string().optional(),
  model: z.string().optional(),
  provider: z.string().optional(),
});

/** What was spent, by whom and for what. */
export const costs: Routes = async (app, { costs: ledger }) => {
  const schema = {
    summary: 'Costs by group, with a forecast to the end of the month',
    description:
      'Settled requests from `since` until `until`, or of the running `period` (UTC). `billed_usd` has the teams’ ' +
      'markups; `unknown_usd` is the part of the cost that may not have been billed. The forecast is for the running ' +
      'month whatever the time asked for.',
    tags: ['costs'],
    querystring: filters.extend({
      group_by: z.enum(COST_GROUPS).default('model'),
      period: z.enum(['day', 'week', 'month', 'all']).default('month'),
      since: instant.optional(),
      until: instant.optional(),
    }),
    response: {
      200: z.object({
        data: z.array(costGroup),
        total: costFigures,
        forecast: z.object({ until: z.date(), cost_usd: z.number(), method: z.string() }),
        next_cursor: z.null(),
      }),
    },
  };
  app.get('/api/v1/costs/summary', { config: { needs: 'ledger:read' }, schema }, async ({ query, caller }) => {
    const { group_by, period, since, until, ...filter } = query;
    const now = new Date();
    const start = since ?? (period === 'all' ? undefined : new Date(rangeAt(PERIODS[period], now).since));
    const visible = { ...filter, visible: visibleTo(caller) };
    const { groups, total } = await ledger.summary(group_by, { ...visible, since: start, until });
    const spent = await ledger.spent({ ...visible, since: new Date(rangeAt('monthly', now).since) });
    const { until: end, nanos, method } = forecastMonth(spent, now);
    return {
      data: [...groups],
      total,
      forecast: { until: end, cost_usd: toDollars(nanos), method },
      next_cursor: null,
    };
  });
};
