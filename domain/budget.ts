/** What a budget's counter runs over. Days, weeks (from Monday) and months are UTC; `total` never starts again. */
export const BUDGET_PERIODS = ['daily', 'weekly', 'monthly', 'total'] as const;

export type BudgetPeriod = (typeof BUDGET_PERIODS)[number];

/** A `hard` budget refuses what could pass it; a `soft` one only warns. */
export const BUDGET_KINDS = ['hard', 'soft'] as const;

export type BudgetKind = (typeof BUDGET_KINDS)[number];

/** Per cent of a budget at which it warns, once a period. */
export const BUDGET_THRESHOLDS = [50, 80, 100] as const;
