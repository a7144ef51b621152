import type { ScopeType } from '../../domain/scope.ts';
import type { Sql } from './database.ts';

/** Whom a limit is for: a scope, or everybody's use of a model. */
export interface LimitedScope {
  readonly type: ScopeType | 'model';
  readonly id: string;
}

/** null removes a limit, undefined leaves it as it is. */
export interface LimitChanges {
  readonly requestsPerMinute?: number | null | undefined;
  readonly tokensPerMinute?: number | null | undefined;
  readonly concurrentRequests?: number | null | undefined;
}

/** Rate limits of any scope. */
export class RateLimits {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  async set({ type, id }: LimitedScope, changes: LimitChanges): Promise<void> {
    const columns = {
      requests_per_minute: changes.requestsPerMinute,
      tokens_per_minute: changes.tokensPerMinute,
      concurrent_requests: changes.concurrentRequests,
    };
    const given = Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== undefined));
    const none = { requests_per_minute: null, tokens_per_minute: null, concurrent_requests: null };
    await this.db
      .insertInto('rate_limits')
      .values({ scope_type: type, scope_id: id, ...none, ...given })
      .onConflict((c) => c.columns(['scope_type', 'scope_id']).doUpdateSet({ ...given, updated_at: new Date() }))
      .execute();
  }
}
