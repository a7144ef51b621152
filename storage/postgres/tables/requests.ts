import type { ColumnType, Generated, GeneratedAlways } from 'kysely';
import type { AttemptState } from '../../../domain/attempt.ts';
import type { RunState } from '../../../domain/run-state.ts';
import type { Nanos, Timestamp } from './columns.ts';

/** How the seed documents name the outcome of a request; null while it runs. */
export type RequestStatus = 'success' | 'failure' | 'fallback';

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

export interface ProcessesTable {
  id: string;
  lease_expires_at: Timestamp;
}

export interface BodiesTable {
  ref: string;
  content: Buffer;
  created_at: Timestamp;
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
