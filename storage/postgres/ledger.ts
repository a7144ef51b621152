import { sql } from 'kysely';
import type { RunState } from '../../domain/run-state.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';
import type { RequestStatus } from './tables/requests.ts';

export interface LedgerFilter {
  readonly visible?: Visible | undefined;
  readonly key?: string | undefined;
  readonly team?: string | undefined;
  readonly model?: string | undefined;
  readonly status?: RequestStatus | undefined;
  readonly since?: Date | undefined;
  readonly until?: Date | undefined;
}

export interface LedgerPage extends LedgerFilter {
  readonly limit: number;
  /** Rows older than this one. */
  readonly cursor?: string | undefined;
}

export interface LedgerAttempt {
  readonly target: string;
  readonly n: number;
  readonly state: string;
  readonly error: string | null;
  /** Id of the stored provider key; null for the provider's configured one. */
  readonly key: string | null;
  readonly latency_ms: number | null;
  readonly prompt_tokens: number | null;
  readonly completion_tokens: number | null;
  readonly cached_tokens: number | null;
  readonly reasoning_tokens: number | null;
  readonly usage_estimated: boolean;
  readonly cost_usd: number;
}

/** A row of `llm_requests` with its attempts in the order they were made. */
export interface LedgerEntry {
  readonly id: string;
  readonly run_id: string;
  readonly request_id: string;
  readonly virtual_key_id: string | null;
  readonly team: string | null;
  readonly project: string | null;
  readonly user_id: string | null;
  readonly prompt: string;
  readonly template_id: string | null;
  readonly model_requested: string;
  readonly model_used: string | null;
  readonly provider_used: string | null;
  readonly parameters: Record<string, unknown>;
  readonly timestamp: Date;
  readonly state: RunState;
  readonly status: RequestStatus | null;
  readonly latency_ms: number | null;
  readonly cost_usd: number;
  readonly prompt_tokens: number | null;
  readonly completion_tokens: number | null;
  readonly total_tokens: number | null;
  readonly error_code: string | null;
  readonly error_message: string | null;
  readonly completed_at: Date | null;
  readonly attempts: readonly LedgerAttempt[];
}

/** What usage can be grouped by, and the column each reads. */
export const USAGE_GROUPS = {
  key: 'virtual_key_id',
  team: 'team',
  project: 'project',
  user: 'user_id',
  model: 'model_used',
  provider: 'provider_used',
  status: 'status',
  day: sql<string>`to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD')`,
} as const;

export type UsageGroup = keyof typeof USAGE_GROUPS;

export interface UsageRow {
  /** null groups requests that have no such value. */
  readonly group: string | null;
  readonly requests: number;
  readonly failures: number;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly cost_usd: number;
}

/** Reads of the ledger. Its rows are written by `requests.ts`, `attempts.ts` and `settlement.ts`. */
export class Ledger {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Newest first. */
  async list({ limit, cursor, ...filter }: LedgerPage): Promise<readonly LedgerEntry[]> {
    let query = this.entries(filter).orderBy('r.timestamp', 'desc').orderBy('r.id', 'desc').limit(limit);
    if (cursor) {
      query = query.where(
        sql<boolean>`(r.timestamp, r.id) < (SELECT c.timestamp, c.id FROM llm_requests c WHERE c.id = ${cursor})`,
      );
    }
    return query.execute();
  }

  async get(id: string, visible: Visible | undefined): Promise<LedgerEntry | undefined> {
    return this.entries({ visible }).where('r.id', '=', id).executeTakeFirst();
  }

  /** What a run called for, in order. */
  ofRun(runId: string): Promise<readonly LedgerEntry[]> {
    return this.entries({}).where('r.run_id', '=', runId).orderBy('r.timestamp').orderBy('r.id').execute();
  }

  /** Totals of settled requests. Ordered by cost, dearest first. */
  async usage(group: UsageGroup, filter: LedgerFilter): Promise<readonly UsageRow[]> {
    const column = USAGE_GROUPS[group];
    const value = typeof column === 'string' ? sql<string | null>`${sql.ref(`r.${column}`)}` : column;
    const rows = await this.filtered(filter)
      .where('r.completed_at', 'is not', null)
      .select([
        value.as('group'),
        sql<number>`count(*)`.as('requests'),
        sql<number>`count(*) FILTER (WHERE r.status = 'failure')`.as('failures'),
        sql<number>`coalesce(sum(r.prompt_tokens), 0)`.as('prompt_tokens'),
        sql<number>`coalesce(sum(r.completion_tokens), 0)`.as('completion_tokens'),
        sql<number>`(sum(r.cost_nanos) / 1e9)::float8`.as('cost_usd'),
      ])
      .groupBy(sql`1`)
      .orderBy(sql`6 DESC`)
      .execute();
    return rows;
  }

  private filtered(filter: LedgerFilter) {
    const { visible, key, team, model, status, since, until } = filter;
    return this.db
      .selectFrom('llm_requests as r')
      .$if(visible !== undefined, (q) => q.where('r.owner', '=', visible?.owner ?? ''))
      .$if(visible?.project !== undefined, (q) => q.where('r.project', '=', visible?.project ?? ''))
      .$if(key !== undefined, (q) => q.where('r.virtual_key_id', '=', key as string))
      .$if(team !== undefined, (q) => q.where('r.team', '=', team as string))
      .$if(model !== undefined, (q) =>
        q.where((eb) =>
          eb.or([eb('r.model_used', '=', model as string), eb('r.model_requested', '=', model as string)]),
        ),
      )
      .$if(status !== undefined, (q) => q.where('r.status', '=', status as RequestStatus))
      .$if(since !== undefined, (q) => q.where('r.timestamp', '>=', since as Date))
      .$if(until !== undefined, (q) => q.where('r.timestamp', '<', until as Date));
  }

  private entries(filter: LedgerFilter) {
    return this.filtered(filter)
      .select(['r.id', 'r.run_id', 'r.request_id', 'r.virtual_key_id', 'r.team', 'r.project', 'r.user_id', 'r.prompt'])
      .select(['r.template_id', 'r.model_requested', 'r.model_used', 'r.provider_used', 'r.parameters', 'r.timestamp'])
      .select(['r.state', 'r.status', 'r.latency_ms', 'r.prompt_tokens', 'r.completion_tokens', 'r.total_tokens'])
      .select(['r.error_code', 'r.error_message', 'r.completed_at'])
      .select(sql<number>`r.cost_usd::float8`.as('cost_usd'))
      .select(
        sql<LedgerAttempt[]>`coalesce((
          SELECT json_agg(json_build_object(
            'target', a.provider || '/' || a.model, 'n', a.n, 'state', a.state, 'error', a.error_code,
            'key', a.provider_key_id,
            'latency_ms', a.latency_ms, 'prompt_tokens', a.prompt_tokens, 'completion_tokens', a.completion_tokens,
            'cached_tokens', a.cached_tokens, 'reasoning_tokens', a.reasoning_tokens,
            'usage_estimated', a.usage_estimated, 'cost_usd', a.cost_nanos / 1e9
          ) ORDER BY a.target_index, a.n)
          FROM attempts a WHERE a.request_id = r.id), '[]'::json)`.as('attempts'),
      );
  }
}
