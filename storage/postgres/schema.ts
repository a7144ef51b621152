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

export interface Database {
  encryption_keys: EncryptionKeysTable;
  provider_keys: ProviderKeysTable;
  virtual_keys: VirtualKeysTable;
  llm_requests: LlmRequestsTable;
  attempts: AttemptsTable;
  processes: ProcessesTable;
  bodies: BodiesTable;
  spend_counters: SpendCountersTable;
  reservations: ReservationsTable;
}
