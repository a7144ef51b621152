import type { AgentMessagesTable, AgentsTable, ApprovalsTable, RunStepsTable } from './tables/agents.ts';
import type {
  BatchesTable,
  BatchLinesTable,
  FileChunksTable,
  FilesTable,
  ProviderBatchesTable,
} from './tables/batches.ts';
import type {
  BudgetAlertsTable,
  BudgetsTable,
  CostReportsTable,
  RateLimitsTable,
  ReservationsTable,
  SpendCountersTable,
} from './tables/money.ts';
import type {
  AttemptsTable,
  BodiesTable,
  IdempotencyKeysTable,
  LlmRequestsTable,
  ProcessesTable,
  ResponsesTable,
} from './tables/requests.ts';
import type { EncryptionKeysTable, ModelsTable, ProviderKeysTable, RoutingOverlayTable } from './tables/routing.ts';
import type { RunEventsTable, RunsTable, WebhookAttemptsTable, WebhookDeliveriesTable } from './tables/runs.ts';
import type {
  AuditLogTable,
  OrganisationsTable,
  ProjectsTable,
  TeamsTable,
  UsersTable,
  VirtualKeysTable,
} from './tables/tenants.ts';

/** Every table, by its name. */
export interface Database {
  encryption_keys: EncryptionKeysTable;
  provider_keys: ProviderKeysTable;
  virtual_keys: VirtualKeysTable;
  llm_requests: LlmRequestsTable;
  attempts: AttemptsTable;
  runs: RunsTable;
  run_events: RunEventsTable;
  responses: ResponsesTable;
  idempotency_keys: IdempotencyKeysTable;
  processes: ProcessesTable;
  bodies: BodiesTable;
  spend_counters: SpendCountersTable;
  reservations: ReservationsTable;
  organisations: OrganisationsTable;
  teams: TeamsTable;
  projects: ProjectsTable;
  users: UsersTable;
  budgets: BudgetsTable;
  rate_limits: RateLimitsTable;
  budget_alerts: BudgetAlertsTable;
  audit_log: AuditLogTable;
  models: ModelsTable;
  routing_overlay: RoutingOverlayTable;
  cost_reports: CostReportsTable;
  webhook_deliveries: WebhookDeliveriesTable;
  webhook_attempts: WebhookAttemptsTable;
  batches: BatchesTable;
  batch_lines: BatchLinesTable;
  provider_batches: ProviderBatchesTable;
  files: FilesTable;
  file_chunks: FileChunksTable;
  agents: AgentsTable;
  run_steps: RunStepsTable;
  approvals: ApprovalsTable;
  agent_messages: AgentMessagesTable;
}
