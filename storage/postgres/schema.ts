import type { ColumnType, Generated, GeneratedAlways } from 'kysely';
import type { AttemptState } from '../../domain/attempt.ts';
import type { InputProblem, LineState } from '../../domain/batch.ts';
import type { BudgetKind, BudgetPeriod } from '../../domain/budget.ts';
import type { CostReportData } from '../../domain/costs.ts';
import type { ErrorInfo } from '../../domain/errors.ts';
import type { FilePurpose } from '../../domain/files.ts';
import type { Price } from '../../domain/money.ts';
import type { ReportPeriod } from '../../domain/report-period.ts';
import type { RunKind, RunState } from '../../domain/run-state.ts';
import type { ScopeType } from '../../domain/scope.ts';
import type { DeliveryState, WebhookEvent } from '../../domain/webhook.ts';

/** A bigint column of nano-dollars; node-postgres hands bigints out as strings, `connect` parses them to numbers. */
type Nanos = number;
type Timestamp = ColumnType<Date, Date | undefined, Date>;

/** How the seed documents name the outcome of a request; null while it runs. */
export type RequestStatus = 'success' | 'failure' | 'fallback';

/** A `service` key may say in a request's metadata for whom it is; a `user` key speaks for itself. */
export type VirtualKeyKind = 'user' | 'service';

export interface VirtualKeysTable {
  id: string;
  name: string;
  /** SHA-256 of the key. */
  key_hash: Buffer;
  /** The first characters, to recognise a key by. */
  key_prefix: string;
  kind: Generated<VirtualKeyKind>;
  roles: Generated<readonly string[]>;
  metadata: ColumnType<Record<string, unknown>, string | undefined, string>;
  privacy_zone: string | null;
  default_model: string | null;
  /** null allows every model. */
  allowed_models: readonly string[] | null;
  team: string | null;
  project: string | null;
  user_id: string | null;
  is_active: Generated<boolean>;
  expires_at: Date | null;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface LlmRequestsTable {
  id: string;
  /** The workflow that makes the call. */
  run_id: string;
  virtual_key_id: string | null;
  organisation: string | null;
  team: string | null;
  project: string | null;
  user_id: string | null;
  /** What the caller says the request is for (`metadata.feature`). */
  feature: string | null;
  /** Per cent that the team is charged on top of the cost. */
  markup_percent: ColumnType<string, number | undefined, number>;
  /** `x-request-id`, unique within its owner. */
  request_id: string;
  /** `team:…`, else `key:…`, `user:…` or `client:…`; `master` for the master key's own. Whose `request_id` it is. */
  owner: string;
  /** `chat.completions` or `generate`. */
  surface: string;
  /** A preview of the last user message, if the config keeps one. The body is in `bodies`. */
  prompt: string;
  body_ref: string;
  template_id: string | null;
  model_requested: string;
  model_used: string | null;
  provider_used: string | null;
  parameters: ColumnType<Record<string, unknown>, string, string>;
  timestamp: Timestamp;
  state: RunState;
  status: RequestStatus | null;
  latency_ms: number | null;
  cost_nanos: Generated<Nanos>;
  cost_usd: GeneratedAlways<string>;
  prompt_tokens: number | null;
  completion_tokens: number | null;
  total_tokens: number | null;
  error_code: string | null;
  error_message: string | null;
  error_param: string | null;
  completed_at: Date | null;
  /** Of a request whose call others may share while it is under way: what they have to have in common. */
  shared_key: string | null;
  /** Who waits for the answer. A shared request is cancelled when the last of them hangs up. */
  callers: Generated<number>;
}

export interface AttemptsTable {
  request_id: string;
  target_index: number;
  n: number;
  provider: string;
  model: string;
  state: AttemptState;
  /** The process that holds the claim; see `processes`. */
  owner: string;
  /** The stored key the call was made with; null for the provider's configured one. */
  provider_key_id: string | null;
  /** What the call was reserved at. */
  max_cost_nanos: Nanos;
  cost_nanos: Generated<Nanos>;
  prompt_tokens: number | null;
  cached_tokens: number | null;
  cache_write_tokens: number | null;
  completion_tokens: number | null;
  reasoning_tokens: number | null;
  audio_input_tokens: number | null;
  audio_output_tokens: number | null;
  input_images: number | null;
  /** What cached input tokens would have cost more at the full input price. */
  cache_savings_nanos: Generated<Nanos>;
  usage_estimated: Generated<boolean>;
  latency_ms: number | null;
  error_code: string | null;
  error_message: string | null;
  error_param: string | null;
  retry_after_ms: number | null;
  provider_status: number | null;
  response_ref: string | null;
  started_at: Timestamp;
  finished_at: Date | null;
}

export interface RunsTable {
  /** The workflow's id; that of its model call too, where it makes one. */
  id: string;
  kind: RunKind;
  owner: string;
  virtual_key_id: string | null;
  team: string | null;
  project: string | null;
  user_id: string | null;
  model: string | null;
  state: RunState;
  /** Where in `run_events` it came into its state. */
  state_seq: Generated<number>;
  /** Temporal's priority key, 1 (first) to 5. */
  priority: number;
  /** Body: what was submitted, and by whom. */
  input_ref: string;
  metadata: ColumnType<Record<string, string>, string, never>;
  deadline_at: Date;
  max_cost_nanos: Nanos | null;
  /** Sealed: who is told about it. */
  webhook: Buffer | null;
  retry_of: string | null;
  rerun_of: string | null;
  error_code: string | null;
  error_message: string | null;
  error_param: string | null;
  created_at: Timestamp;
  started_at: Date | null;
  completed_at: Date | null;
}

export interface RunEventsTable {
  run_id: string;
  /** Number of its first entry, from 0. */
  seq: number;
  count: number;
  /** Rank of the writer. */
  epoch: number;
  /** Sealed: the entries as JSON. */
  content: Buffer;
}

export interface ResponsesTable {
  /** The request's id, and the run's where it has one. */
  id: string;
  owner: string;
  project: string | null;
  background: boolean;
  previous_response_id: string | null;
  /** Body: the request as its caller made it. */
  input_ref: string;
  created_at: Timestamp;
}

export interface IdempotencyKeysTable {
  owner: string;
  endpoint: string;
  key: string;
  body_hash: string;
  run_id: string;
  expires_at: ColumnType<Date, never, never>;
}

export interface ProcessesTable {
  id: string;
  lease_expires_at: Timestamp;
}

export interface BodiesTable {
  ref: string;
  content: Buffer;
  created_at: Timestamp;
}

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

export interface OrganisationsTable {
  id: string;
  name: string;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface TeamsTable extends OrganisationsTable {
  organisation: string | null;
  markup_percent: ColumnType<string, number | undefined, number>;
}

export interface ProjectsTable extends OrganisationsTable {
  team: string | null;
}

export interface UsersTable extends OrganisationsTable {
  email: string | null;
  team: string | null;
  roles: Generated<readonly string[]>;
  is_active: Generated<boolean>;
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

export interface AuditLogTable {
  /** Time-ordered. */
  id: string;
  at: Timestamp;
  actor: string;
  actor_roles: readonly string[];
  action: string;
  target_type: string;
  target_id: string | null;
  changes: ColumnType<Record<string, unknown>, string, never>;
  request_id: string;
  ip: string;
}

export interface EncryptionKeysTable {
  /** 8 bytes in hex, part of everything the key sealed. */
  id: string;
  /** The data key, wrapped by the key-encryption key `kek_id`. */
  wrapped: Buffer;
  kek_id: string;
  created_at: Timestamp;
}

export interface ProviderKeysTable {
  id: string;
  provider: string;
  /** null for every region. */
  region: string | null;
  /** null for every team. */
  team: string | null;
  /** Set on a key that only calls of this virtual key use. */
  virtual_key_id: string | null;
  weight: number;
  sealed: Buffer;
  /** Counts the keys that this row held. */
  revision: Generated<number>;
  /** The last characters, to recognise the key by. */
  hint: string;
  state: Generated<ProviderKeyState>;
  benched_until: Date | null;
  bench_reason: string | null;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export type ProviderKeyState = 'active' | 'disabled';

/** Models that operators stored; each replaces the catalogue's of the same id. */
export interface ModelsTable {
  id: string;
  /** As in a models file. */
  entry: ColumnType<unknown, string, string>;
  created_at: Timestamp;
  updated_at: Timestamp;
}

/** The one row that says what the database lays over the config. */
export interface RoutingOverlayTable {
  /** Grows with every change of this row and of `models`. */
  version: ColumnType<number, number | undefined, number>;
  /** Routing; null where gateway.yaml decides, as in `settings`. */
  policy: ColumnType<unknown, string | null, string | null>;
  settings: ColumnType<unknown, string | null, string | null>;
}

export interface CostReportsTable {
  id: string;
  period: ReportPeriod;
  since: Date;
  until: Date;
  created_at: Timestamp;
  data: ColumnType<CostReportData, string, never>;
}

export interface WebhookDeliveriesTable {
  id: string;
  run_id: string;
  /** Whose run it is; see `llm_requests`. */
  owner: string;
  project: string | null;
  type: WebhookEvent;
  /** Which one of its type in the run: a run may need input more than once. */
  occurrence: number;
  /** Where it goes, without the query. */
  url: string;
  /** The whole URL and the secret, sealed. */
  receiver: Buffer;
  /** The text that is sent, sealed. */
  payload: Buffer;
  state: Generated<DeliveryState>;
  /** Counts the times it was asked to be sent, by the run and by callers. */
  send: Generated<number>;
  /** Rows in `webhook_attempts`. */
  attempts: Generated<number>;
  created_at: Timestamp;
  delivered_at: Date | null;
}

export interface WebhookAttemptsTable {
  delivery_id: string;
  n: number;
  at: Date;
  /** null when there was no answer. */
  status: number | null;
  error: string | null;
  latency_ms: number;
}

export interface FilesTable {
  /** Time-ordered. */
  id: string;
  /** As in `llm_requests`. */
  owner: string;
  project: string | null;
  /** Empty until it is finished, as is `purpose`. */
  filename: Generated<string>;
  purpose: Generated<FilePurpose>;
  bytes: Generated<number>;
  /** Nobody sees it before. */
  finished: Generated<boolean>;
  created_at: Timestamp;
  /** When it is removed: past its time, or left unfinished. null keeps it. */
  expires_at: Date | null;
}

export interface FileChunksTable {
  file_id: string;
  n: number;
  /** Of the plain content. */
  bytes: number;
  /** Sealed. */
  content: Buffer;
}

/** What the row in `runs` lacks. */
export interface BatchesTable {
  id: string;
  endpoint: string;
  input_file_id: string;
  /** Seconds its files are kept; null for the default. */
  output_keep_seconds: number | null;
  /** Lines of the input; 0 until they are counted. */
  total: Generated<number>;
  completed: Generated<number>;
  /** Lines that ended in any other way. */
  failed: Generated<number>;
  /** Of the lines that have ended. */
  cost_nanos: Generated<Nanos>;
  usage: ColumnType<BatchUsage | null, string | null, string>;
  /** The first problems that were found in the input. */
  errors: ColumnType<readonly InputProblem[], string | undefined, string>;
  output_file_id: string | null;
  error_file_id: string | null;
  in_progress_at: Date | null;
  cancelling_at: Date | null;
  finalizing_at: Date | null;
  expired_at: Date | null;
}

/** Tokens of the calls that a batch made. */
export interface BatchUsage {
  readonly input: number;
  readonly cached: number;
  readonly output: number;
  readonly reasoning: number;
}

export interface BatchLinesTable {
  batch_id: string;
  /** Line of the input file, counted from 1. */
  n: number;
  byte_offset: number;
  /** null where it could not be read. */
  custom_id: string | null;
  state: LineState;
  /** The request of an earlier batch whose answer this line has. */
  answered_by: string | null;
  /** Why the line could not be read. */
  problem: ColumnType<InputProblem | null, string | null, string | null>;
  /** Why its call gave no answer. */
  error: ColumnType<ErrorInfo | null, string | null, string | null>;
}

/** A batch of a provider's own API, with lines of one of ours. */
export interface ProviderBatchesTable {
  /** The owner of its lines' claims, and the name by which the provider may know it. */
  id: string;
  batch_id: string;
  provider: string;
  model: string;
  provider_key_id: string | null;
  /** null for a model without a price. */
  price: ColumnType<Price | null, string | null, never>;
  /** The provider's own id, once it is known. */
  provider_batch_id: string | null;
  state: ProviderBatchState;
  created_at: Timestamp;
}

/** `submitting`: the provider may have it. `refused`: it did not take it, and is not asked again. */
export type ProviderBatchState = 'gathering' | 'submitting' | 'running' | 'refused' | 'ended';

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
}
