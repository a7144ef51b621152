import { sql } from 'kysely';
import { BUDGET_KINDS, BUDGET_PERIODS, type BudgetKind, type BudgetPeriod } from '../../domain/budget.ts';
import { newId } from '../../domain/ids.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Scope, ScopeType } from '../../domain/scope.ts';
import type { Sql } from './database.ts';
import { ledgerSum, periodEnd, periodStart } from './spend-counters.ts';

export interface NewBudget {
  readonly scope: Scope;
  readonly period: BudgetPeriod;
  readonly kind: BudgetKind;
  readonly limitNanos: NanoDollars;
}

export interface Budget extends NewBudget {
  readonly id: string;
  readonly spentNanos: NanoDollars;
  readonly reservedNanos: NanoDollars;
  /** null for `total`. */
  readonly resetsAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface BudgetFilter {
  readonly scopeType?: ScopeType | undefined;
  readonly scopeId?: string | undefined;
  /** Only budgets of these. */
  readonly within?: readonly Scope[] | undefined;
}

/** One of each period and kind. */
const MAX_BUDGETS_OF_SCOPE = BUDGET_PERIODS.length * BUDGET_KINDS.length;

/** Budgets of any scope with what is spent and set aside in the running period. */
export class Budgets {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** undefined when the scope has a budget of that period and kind already. What it spent this period counts. */
  async create({ scope, period, kind, limitNanos }: NewBudget): Promise<Budget | undefined> {
    const row = await this.db
      .insertInto('budgets')
      .values({ id: newId('bud'), scope_type: scope.type, scope_id: scope.id, period, kind, limit_nanos: limitNanos })
      .onConflict((conflict) => conflict.doNothing())
      .returning('id')
      .executeTakeFirst();
    return row && this.get(row.id);
  }

  /** Sets or clears the hard monthly budget of a key, its cost cap. */
  async setCostCap(keyId: string, limitNanos: NanoDollars | null): Promise<void> {
    const budget = { scope_type: 'key', scope_id: keyId, period: 'monthly', kind: 'hard' } as const;
    if (limitNanos === null) {
      await this.db
        .deleteFrom('budgets')
        .where((eb) => eb.and(budget))
        .execute();
      return;
    }
    await this.db
      .insertInto('budgets')
      .values({ id: newId('bud'), ...budget, limit_nanos: limitNanos })
      .onConflict((conflict) =>
        conflict
          .columns(['scope_type', 'scope_id', 'period', 'kind'])
          .doUpdateSet({ limit_nanos: limitNanos, updated_at: new Date() }),
      )
      .execute();
  }

  /** @param within Only a budget of one of these. */
  get(id: string, within?: readonly Scope[]): Promise<Budget | undefined> {
    return this.select(sql`b.id = ${id} AND ${isWithin(within)}`, 1).then((budgets) => budgets[0]);
  }

  /** Budgets after `cursor` (an id), oldest first. */
  list(
    { scopeType, scopeId, within }: BudgetFilter,
    limit: number,
    cursor: string | undefined,
  ): Promise<readonly Budget[]> {
    const conditions = [
      scopeType === undefined ? sql`true` : sql`b.scope_type = ${scopeType}`,
      scopeId === undefined ? sql`true` : sql`b.scope_id = ${scopeId}`,
      cursor === undefined ? sql`true` : sql`b.id > ${cursor}`,
      isWithin(within),
    ];
    return this.select(sql.join(conditions, sql` AND `), limit);
  }

  /** All budgets of some scopes. */
  ofScopes(scopes: readonly Scope[]): Promise<readonly Budget[]> {
    if (scopes.length === 0) return Promise.resolve([]);
    const wanted = scopes.map(({ type, id }) => sql`(b.scope_type, b.scope_id) = (${type}, ${id})`);
    return this.select(sql`(${sql.join(wanted, sql` OR `)})`, scopes.length * MAX_BUDGETS_OF_SCOPE);
  }

  async update(id: string, limitNanos: NanoDollars): Promise<Budget | undefined> {
    await this.db
      .updateTable('budgets')
      .set({ limit_nanos: limitNanos, updated_at: new Date() })
      .where('id', '=', id)
      .execute();
    return this.get(id);
  }

  /** true if there was one. */
  async remove(id: string): Promise<boolean> {
    const { numDeletedRows } = await this.db.deleteFrom('budgets').where('id', '=', id).executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  }

  private async select(condition: ReturnType<typeof sql>, limit: number): Promise<readonly Budget[]> {
    const end = periodEnd(sql`b.period`, sql`b.start`);
    const { rows } = await sql<BudgetRow>`
      SELECT b.*, coalesce(c.reserved_nanos, 0) AS reserved_nanos,
        coalesce(c.spent_nanos, ${ledgerSum(sql`b.scope_type`, sql`b.scope_id`, sql`b.start`, end)}) AS spent_nanos,
        CASE WHEN b.period <> 'total' THEN ${end} AT TIME ZONE 'UTC' END AS resets_at
      FROM (SELECT *, ${periodStart(sql`period`, sql`now()`)} AS start FROM budgets) b
      LEFT JOIN spend_counters c
        ON (c.scope_type, c.scope_id, c.period, c.period_start) = (b.scope_type, b.scope_id, b.period, b.start)
      WHERE ${condition} ORDER BY b.id LIMIT ${limit}`.execute(this.db);
    return rows.map(toBudget);
  }
}

const isWithin = (scopes: readonly Scope[] | undefined) =>
  scopes === undefined
    ? sql`true`
    : sql`(b.scope_type, b.scope_id) IN (SELECT * FROM unnest(
        ${scopes.map(({ type }) => type)}::text[], ${scopes.map(({ id }) => id)}::text[]))`;

interface BudgetRow {
  readonly id: string;
  readonly scope_type: ScopeType;
  readonly scope_id: string;
  readonly period: BudgetPeriod;
  readonly kind: BudgetKind;
  readonly limit_nanos: number;
  readonly spent_nanos: number;
  readonly reserved_nanos: number;
  readonly resets_at: Date | null;
  readonly created_at: Date;
  readonly updated_at: Date;
}

const toBudget = (row: BudgetRow): Budget => ({
  id: row.id,
  scope: { type: row.scope_type, id: row.scope_id },
  period: row.period,
  kind: row.kind,
  limitNanos: row.limit_nanos,
  spentNanos: row.spent_nanos,
  reservedNanos: row.reserved_nanos,
  resetsAt: row.resets_at,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
});
