import type { Selectable } from 'kysely';
import { newId } from '../../domain/ids.ts';
import type { Sql } from './database.ts';
import type { AuditLogTable } from './tables/tenants.ts';

export type AuditEntry = Selectable<AuditLogTable>;

export interface NewAuditEntry {
  /** `master`, the id of a key, `user:…` or `client:…`. */
  readonly actor: string;
  readonly actorRoles: readonly string[];
  /** `<target type>.<verb>`. */
  readonly action: string;
  readonly targetId: string | null;
  /** The fields that were set and what to; secrets are taken out before. */
  readonly changes: Readonly<Record<string, unknown>>;
  readonly requestId: string;
  readonly ip: string;
}

export interface AuditFilter {
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  /** Id of what was changed. */
  readonly target?: string | undefined;
  readonly since?: Date | undefined;
  readonly limit: number;
  /** Entries older than this one. */
  readonly cursor?: string | undefined;
}

/** Who changed what. Entries are added and read; the database refuses everything else. */
export class AuditLog {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  async add(entry: NewAuditEntry): Promise<void> {
    await this.db
      .insertInto('audit_log')
      .values({
        id: newId('aud'),
        actor: entry.actor,
        actor_roles: entry.actorRoles,
        action: entry.action,
        target_type: entry.action.split('.')[0] ?? entry.action,
        target_id: entry.targetId,
        changes: JSON.stringify(entry.changes),
        request_id: entry.requestId,
        ip: entry.ip,
      })
      .execute();
  }

  /** Newest first. */
  async list({ actor, action, target, since, limit, cursor }: AuditFilter): Promise<readonly AuditEntry[]> {
    return this.db
      .selectFrom('audit_log')
      .selectAll()
      .$if(actor !== undefined, (q) => q.where('actor', '=', actor as string))
      .$if(action !== undefined, (q) => q.where('action', '=', action as string))
      .$if(target !== undefined, (q) => q.where('target_id', '=', target as string))
      .$if(since !== undefined, (q) => q.where('at', '>=', since as Date))
      .$if(cursor !== undefined, (q) => q.where('id', '<', cursor as string))
      .orderBy('id', 'desc')
      .limit(limit)
      .execute();
  }
}
