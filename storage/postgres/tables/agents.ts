import type { ColumnType, Generated } from 'kysely';
import type { ApprovalKind, ApprovalState } from '../../../domain/approval.ts';
import type { ErrorCode } from '../../../domain/errors.ts';
import type { Pattern, StepState } from '../../../domain/pipeline.ts';
import type { Role } from '../../../domain/roles.ts';
import type { Timestamp } from './columns.ts';

export interface AgentsTable {
  id: string;
  /** As in `llm_requests`. */
  owner: string;
  project: string | null;
  /** Unique within its owner. */
  name: string;
  kind: 'prompt' | 'remote';
  description: string;
  capabilities: string[];
  /** Sealed: it may hold credentials. */
  definition: Buffer;
  /** Of remote agents: seconds after which one that was silent counts as unhealthy. null: it need not report. */
  heartbeat_seconds: number | null;
  heartbeat_at: Date | null;
  /** What it last said it is busy with, in tasks. */
  load: Generated<number>;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface RunStepsTable {
  run_id: string;
  name: string;
  /** The step it is part of and was begun by, where the pipeline's definition does not say so: a supervisor's. */
  parent: string | null;
  pattern: Pattern;
  agent_id: string | null;
  /** Its name. */
  agent: string | null;
  state: StepState;
  input_ref: string | null;
  output_ref: string | null;
  error_code: ErrorCode | null;
  error_message: string | null;
  error_param: string | null;
  /** Done by the run that this one repeats. */
  kept: Generated<boolean>;
  started_at: Timestamp;
  completed_at: Date | null;
}

/** A vote as it is kept. What was said with it is a body. */
export interface StoredVote {
  readonly actor: string;
  readonly decision: 'approve' | 'reject';
  /** ISO. */
  readonly at: string;
  readonly said_ref?: string;
}

export interface ApprovalsTable {
  id: string;
  run_id: string;
  step: string;
  kind: ApprovalKind;
  owner: string;
  team: string | null;
  project: string | null;
  /** Who started the run, and those that it repeats. */
  requesters: string[];
  state: ApprovalState;
  /** Body: what is asked for and why. */
  subject_ref: string;
  /** Who may decide; grows by escalation. */
  roles: Role[];
  count: number;
  not_requester: boolean;
  votes: ColumnType<readonly StoredVote[], string | undefined, string>;
  /** Of the event that told of it. */
  seq: number;
  /** Escalations so far. */
  level: Generated<number>;
  /** Changes so far. */
  revision: Generated<number>;
  /** Body: what will be done, where somebody changed it. */
  payload_ref: string | null;
  expires_at: Date;
  created_at: Timestamp;
  decided_at: Date | null;
}

export interface AgentMessagesTable {
  id: string;
  owner: string;
  project: string | null;
  /** The run it is for, if it is for one. */
  run_id: string | null;
  sender: string;
  /** Name of an agent. */
  recipient: string;
  body_ref: string;
  /** When its run was told. */
  delivered_at: Date | null;
  created_at: Timestamp;
}
