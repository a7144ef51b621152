import type { ColumnType } from 'kysely';
import type { BudgetKind, BudgetPeriod } from '../../../domain/budget.ts';
import type { CostReportData } from '../../../domain/costs.ts';
import type { ReportPeriod } from '../../../domain/report-period.ts';
import type { ScopeType } from '../../../domain/scope.ts';
import type { Nanos, Timestamp } from './columns.ts';

export interface SpendCountersTable {
  scope_type: ScopeType;
  scope_id: string;
  period: BudgetPeriod;
  /** First day of the period, UTC. */
  period_start: ColumnType<string, string, string>;
  spent_nanos: Nanos;
  reserved_nanos: Nanos;
  /** When it was last compared with the ledger. */
  checked_at: Date | null;
}

export interface ReservationsTable {
  request_id: string;
  scope_type: ScopeType;
  scope_id: string;
  period: BudgetPeriod;
  period_start: ColumnType<string, string, string>;
  reserved_nanos: Nanos;
  settled_nanos: Nanos | null;
  /** Price book the amounts were computed with. */
  price_version: string;
  created_at: Timestamp;
  settled_at: Date | null;
}

export interface BudgetsTable {
  id: string;
  scope_type: ScopeType;
  scope_id: string;
  period: BudgetPeriod;
  kind: BudgetKind;
  limit_nanos: Nanos;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface RateLimitsTable {
  /** A scope, or `model`. */
  scope_type: string;
  scope_id: string;
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  concurrent_requests: number | null;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface BudgetAlertsTable {
  id: string;
  budget_id: string;
  period_start: ColumnType<string, string, string>;
  /** Per cent. */
  threshold: number;
  /** The request whose settlement passed it. */
  request_id: string;
  spent_nanos: Nanos;
  limit_nanos: Nanos;
  created_at: Timestamp;
}

export interface CostReportsTable {
  id: string;
  period: ReportPeriod;
  since: Date;
  until: Date;
  created_at: Timestamp;
  data: ColumnType<CostReportData, string, never>;
}
