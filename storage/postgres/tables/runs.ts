import type { ColumnType, Generated } from 'kysely';
import type { RunKind, RunState } from '../../../domain/run-state.ts';
import type { DeliveryState, WebhookEvent } from '../../../domain/webhook.ts';
import type { Nanos, Timestamp } from './columns.ts';

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
  /** Limits of pipelines. */
  max_steps: number | null;
  max_duration_ms: number | null;
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
