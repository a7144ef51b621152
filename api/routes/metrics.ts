import { HoldfastError } from '../../domain/errors.ts';
import { countBudgetAlerts } from '../../storage/postgres/budget-alerts.ts';
import { visibleTo } from '../auth/caller.ts';
import { describeBudgets } from '../budget-metrics.ts';
import type { Routes } from './route.ts';

const MAX_BUDGETS = 1_000;

/** For Prometheus: budgets of the whole gateway, requests of this process. */
export const metrics: Routes = async (app, { budgets, db }) => {
  const schema = {
    summary: 'Budgets, requests and this process in Prometheus’ text format',
    description: 'For callers who see everything. Requests are those that this process answered.',
    tags: ['monitoring'],
  };
  app.get('/metrics', { config: { needs: 'ledger:read' }, schema }, async ({ caller }, reply) => {
    if (visibleTo(caller) !== undefined) {
      throw new HoldfastError('caller_forbidden', 'Metrics are for the master key and for admins without a team.');
    }
    const [own, ofBudgets] = await Promise.all([
      app.metrics.metrics(),
      Promise.all([budgets.list({}, MAX_BUDGETS, undefined), countBudgetAlerts(db)]).then(([listed, alerts]) =>
        describeBudgets(listed, alerts),
      ),
    ]);
    return reply.type(app.metrics.contentType).send(`${own}\n${ofBudgets}`);
  });
};
