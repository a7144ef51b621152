import type { ColumnType, Generated } from 'kysely';
import type { InputProblem, LineState } from '../../../domain/batch.ts';
import type { ErrorInfo } from '../../../domain/errors.ts';
import type { FilePurpose } from '../../../domain/files.ts';
import type { Price } from '../../../domain/money.ts';
import type { Nanos, Timestamp } from './columns.ts';

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
