import { sql } from 'kysely';
import type { BudgetKind, BudgetPeriod } from '../../domain/budget.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Scope, ScopeType } from '../../domain/scope.ts';
import type { Sql } from './database.ts';

/** A budget passed a threshold. */
export interface BudgetAlert {
  readonly id: string;
  readonly budgetId: string;
  readonly scope: Scope;
  readonly period: BudgetPeriod;
  /** First day of the period, UTC. */
  readonly periodStart: string;
  readonly kind: BudgetKind;
  /** Per cent. */
  readonly threshold: number;
  readonly spentNanos: NanoDollars;
  readonly limitNanos: NanoDollars;
  readonly createdAt: Date;
}

/** The alerts of these ids whose budgets still exist. */
export async function budgetAlerts(db: Sql, ids: readonly string[]): Promise<readonly BudgetAlert[]> {
  if (ids.length === 0) return [];
  const { rows } = await sql<AlertRow>`
    SELECT a.*, b.scope_type, b.scope_id, b.period, b.kind
    FROM budget_alerts a JOIN budgets b ON b.id = a.budget_id
    WHERE a.id = ANY (${[...ids]}::text[]) ORDER BY a.threshold`.execute(db);
  return rows.map((row) => ({
    id: row.id,
    budgetId: row.budget_id,
    scope: { type: row.scope_type, id: row.scope_id },
    period: row.period,
    periodStart: row.period_start,
    kind: row.kind,
    threshold: row.threshold,
    spentNanos: row.spent_nanos,
    limitNanos: row.limit_nanos,
    createdAt: row.created_at,
  }));
}

export interface AlertCount {
  /** Per cent. */
  readonly threshold: number;
  readonly count: number;
}

/** How often budgets that still exist have warned. */
export async function countBudgetAlerts(db: Sql): Promise<readonly AlertCount[]> {
  const { rows } = await sql<AlertCount>`
    SELECT threshold, count(*)::int AS count FROM budget_alerts GROUP BY threshold`.execute(db);
  return rows;
}

interface AlertRow {
  readonly id: string;
  readonly budget_id: string;
  readonly scope_type: ScopeType;
  readonly scope_id: string;
  readonly period: BudgetPeriod;
  readonly period_start: string;
  readonly kind: BudgetKind;
  readonly threshold: number;
  readonly spent_nanos: number;
  readonly limit_nanos: number;
  readonly created_at: Date;
}
