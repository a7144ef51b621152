import type { ColumnType, Generated, GeneratedAlways } from 'kysely';
import type { AttemptState } from '../../domain/attempt.ts';
import type { RunState } from '../../domain/run-state.ts';

/** A bigint column of nano-dollars; node-postgres hands bigints out as strings, `connect` parses them to numbers. */
type Nanos = number;
type Timestamp = ColumnType<Date, Date | undefined, Date>;

/** How the seed documents name the outcome of a request; null while it runs. */
export type RequestStatus = 'success' | 'failure' | 'fallback';

export interface VirtualKeysTable {
  id: string;
  name: string;
  /** SHA-256 of the key. */
  key_hash: Buffer;
  /** The first characters, to recognise a key by. */
  key_prefix: string;
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  /** Per calendar month, UTC. */
  cost_cap_nanos: Nanos | null;
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
  team: string | null;
  project: string | null;
  user_id: string | null;
  /** `x-request-id`, unique within its owner. */
  request_id: string;
  /** Team, else key, else the master key: whose `request_id` it is. */
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
  /** What the call was reserved at. */
  max_cost_nanos: Nanos;
  cost_nanos: Generated<Nanos>;
  prompt_tokens: number | null;
  cached_tokens: number | null;
  cache_write_tokens: number | null;
  completion_tokens: number | null;
  reasoning_tokens: number | null;
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
  scope_type: string;
  scope_id: string;
  /** First day of the month, UTC. */
  period_start: ColumnType<string, string, string>;
  spent_nanos: Nanos;
  reserved_nanos: Nanos;
}

export interface ReservationsTable {
  request_id: string;
  scope_type: string;
  scope_id: string;
  period_start: ColumnType<string, string, string>;
  reserved_nanos: Nanos;
  settled_nanos: Nanos | null;
  /** Price book the amounts were computed with. */
  price_version: string;
  created_at: Timestamp;
  settled_at: Date | null;
}

export interface Database {
  virtual_keys: VirtualKeysTable;
  llm_requests: LlmRequestsTable;
  attempts: AttemptsTable;
  processes: ProcessesTable;
  bodies: BodiesTable;
  spend_counters: SpendCountersTable;
  reservations: ReservationsTable;
}
