import type { Selectable } from 'kysely';
import type { ScopeType } from '../../domain/scope.ts';
import type { Sql } from './database.ts';
import type { RateLimitsTable } from './tables/money.ts';

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

export interface LimitFilter {
  readonly type?: string | undefined;
  readonly id?: string | undefined;
}

export type RateLimitRow = Selectable<RateLimitsTable>;

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

  get({ type, id }: LimitedScope): Promise<RateLimitRow | undefined> {
    return this.list({ type, id }, 1, undefined).then(([row]) => row);
  }

  /** In the order of scope and id, after `after`. */
  async list(
    { type, id }: LimitFilter,
    limit: number,
    after: LimitFilter | undefined,
  ): Promise<readonly RateLimitRow[]> {
    return this.db
      .selectFrom('rate_limits')
      .selectAll()
      .$if(type !== undefined, (q) => q.where('scope_type', '=', type as string))
      .$if(id !== undefined, (q) => q.where('scope_id', '=', id as string))
      .$if(after !== undefined, (q) =>
        q.where((eb) =>
          eb(eb.refTuple('scope_type', 'scope_id'), '>', eb.tuple(after?.type as string, after?.id as string)),
        ),
      )
      .orderBy('scope_type')
      .orderBy('scope_id')
      .limit(limit)
      .execute();
  }

  /** true if there was one. */
  async remove({ type, id }: LimitedScope): Promise<boolean> {
    const query = this.db.deleteFrom('rate_limits').where('scope_type', '=', type).where('scope_id', '=', id);
    return (await query.executeTakeFirstOrThrow()).numDeletedRows > 0n;
  }
}
