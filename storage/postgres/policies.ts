import { sql } from 'kysely';
import { LRUCache } from 'lru-cache';
import type { Attribution, ScopeType } from '../../domain/scope.ts';
import type { Sql } from './database.ts';

/** The limits of one scope, or of a model for everybody (`model`). null where there is none. */
export interface ScopeLimits {
  readonly scope: ScopeType | 'model';
  readonly id: string;
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
  readonly concurrentRequests: number | null;
}

/** What applies to a request by whom it is for. */
export interface Policy {
  /** The team's. */
  readonly organisation: string | null;
  /** Per cent that the team is charged on top of the cost. */
  readonly markupPercent: number;
  /** Whether a budget that refuses applies, so that the cost has to have a bound. */
  readonly hardBudget: boolean;
  readonly limits: readonly ScopeLimits[];
}

/** Milliseconds a policy is remembered; a change reaches every process within. */
const CACHE_MS = 1_000;
const CACHE_SIZE = 10_000;

export class Policies {
  private readonly cache = new LRUCache<string, Policy>({ max: CACHE_SIZE, ttl: CACHE_MS });
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** @param models The names by which the model of a request may be limited. */
  async of(who: Omit<Attribution, 'organisation'>, models: readonly string[]): Promise<Policy> {
    const id = JSON.stringify([who.keyId, who.team, who.project, who.user, models]);
    const cached = this.cache.get(id);
    if (cached) return cached;
    const policy = await this.read(who, models);
    this.cache.set(id, policy);
    return policy;
  }

  private async read(who: Omit<Attribution, 'organisation'>, models: readonly string[]): Promise<Policy> {
    const { rows } = await sql<PolicyRow>`
      WITH team AS (
        SELECT organisation, markup_percent FROM teams WHERE id = ${who.team}
      ), scope (scope_type, scope_id) AS (
        SELECT 'model', unnest(${[...models]}::text[])
        UNION ALL VALUES ('key', ${who.keyId}::text), ('organisation', (SELECT organisation FROM team)), ('project', ${who.project}::text),
               ('team', ${who.team}::text), ('user', ${who.user}::text)
      )
      SELECT (SELECT organisation FROM team) AS organisation,
        coalesce((SELECT markup_percent FROM team), 0)::float8 AS markup_percent,
        EXISTS (SELECT 1 FROM budgets b JOIN scope USING (scope_type, scope_id) WHERE b.kind = 'hard') AS hard_budget,
        coalesce((
          SELECT json_agg(json_build_object('scope', l.scope_type, 'id', l.scope_id,
            'requestsPerMinute', l.requests_per_minute, 'tokensPerMinute', l.tokens_per_minute,
            'concurrentRequests', l.concurrent_requests) ORDER BY l.scope_type, l.scope_id)
          FROM scope JOIN rate_limits l USING (scope_type, scope_id)), '[]'::json) AS limits`.execute(this.db);
    const row = rows[0] as PolicyRow;
    return {
      organisation: row.organisation,
      markupPercent: row.markup_percent,
      hardBudget: row.hard_budget,
      limits: row.limits,
    };
  }
}

interface PolicyRow {
  readonly organisation: string | null;
  readonly markup_percent: number;
  readonly hard_budget: boolean;
  readonly limits: readonly ScopeLimits[];
}
