import { Counter, Gauge, Registry } from 'prom-client';
import { BUDGET_THRESHOLDS } from '../domain/budget.ts';
import { toDollars } from '../domain/money.ts';
import type { AlertCount } from '../storage/postgres/budget-alerts.ts';
import type { Budget } from '../storage/postgres/budgets.ts';

/** Budgets and their warnings in Prometheus' text format. A registry for each scrape, so that none shows another's. */
export function describeBudgets(budgets: readonly Budget[], alerts: readonly AlertCount[]): Promise<string> {
  const registry = new Registry();
  const gauge = (what: string, help: string) =>
    new Gauge({
      name: `holdfast_budget_${what}_usd`,
      help,
      labelNames: ['scope_type', 'scope_id', 'period', 'kind'] as const,
      registers: [registry],
    });
  const limit = gauge('limit', 'What may be spent in a period.');
  const spent = gauge('spent', 'What was spent in the running period.');
  const reserved = gauge('reserved', 'What requests under way have set aside.');
  for (const { scope, period, kind, limitNanos, spentNanos, reservedNanos } of budgets) {
    const labels = { scope_type: scope.type, scope_id: scope.id, period, kind };
    limit.set(labels, toDollars(limitNanos));
    spent.set(labels, toDollars(spentNanos));
    reserved.set(labels, toDollars(reservedNanos));
  }
  const given = new Counter({
    name: 'holdfast_budget_alerts_total',
    help: 'Warnings of budgets that exist, by the per cent at which they were given.',
    labelNames: ['threshold'] as const,
    registers: [registry],
  });
  for (const threshold of BUDGET_THRESHOLDS) {
    given.inc({ threshold }, alerts.find((alert) => alert.threshold === threshold)?.count ?? 0);
  }
  return registry.metrics();
}
