import { type Selectable, sql } from 'kysely';
import type { ApprovalKind, ApprovalState } from '../../domain/approval.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Role } from '../../domain/roles.ts';
import { insertBody, type SealedBody } from './bodies.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';
import type { RunEvents } from './run-events.ts';
import type { ApprovalsTable, StoredVote } from './tables/agents.ts';

export interface NewApproval {
  readonly id: string;
  readonly runId: string;
  readonly step: string;
  readonly kind: ApprovalKind;
  readonly requesters: readonly string[];
  readonly subject: SealedBody;
  readonly roles: readonly Role[];
  readonly count: number;
  readonly notRequester: boolean;
  readonly expiresAt: Date;
}

/** What a workflow says about an approval. */
export interface ApprovalProjection {
  readonly id: string;
  readonly state: ApprovalState;
  readonly roles: readonly Role[];
  readonly votes: readonly StoredVote[];
  /** Escalations so far. */
  readonly level: number;
  /** Changes so far. */
  readonly revision: number;
  /** Body: what will be done, where somebody changed it. */
  readonly payloadRef: string | null;
}

export interface Approval {
  readonly id: string;
  readonly runId: string;
  readonly step: string;
  readonly kind: ApprovalKind;
  readonly team: string | null;
  readonly requesters: readonly string[];
  readonly state: ApprovalState;
  readonly subjectRef: string;
  /** Body: what will be done, where somebody changed it. */
  readonly payloadRef: string | null;
  readonly roles: readonly Role[];
  readonly count: number;
  readonly notRequester: boolean;
  readonly votes: readonly StoredVote[];
  readonly level: number;
  /** Of the event that told of it. */
  readonly seq: number;
  /** What its run has cost so far. */
  readonly costNanos: NanoDollars;
  readonly expiresAt: Date;
  readonly createdAt: Date;
  readonly decidedAt: Date | null;
}

export interface ApprovalFilter {
  readonly visible: Visible | undefined;
  readonly runId?: string | undefined;
  readonly state?: ApprovalState | undefined;
  readonly team?: string | undefined;
  /** Those that somebody with one of these roles may decide. */
  readonly roles?: readonly Role[] | undefined;
  /** Seconds since it was asked for. */
  readonly minAge?: number | undefined;
}

export interface ApprovalPage extends ApprovalFilter {
  readonly limit: number;
  /** Approvals younger than this one. */
  readonly cursor?: string | undefined;
}

/** What people are asked: the projection of what workflows decided. */
export class Approvals {
  private readonly db: Sql;
  private readonly events: RunEvents;

  constructor(db: Sql, events: RunEvents) {
    this.db = db;
    this.events = events;
  }

  /** One that is there stays as it is. */
  async insert({ id, runId, step, kind, subject, ...asked }: NewApproval): Promise<void> {
    await sql`${insertBody(subject)}`.execute(this.db);
    await this.events.tell(
      runId,
      { type: 'approval', id, step, state: 'pending' },
      sql`
        INSERT INTO approvals (id, run_id, step, kind, owner, team, project, requesters, state, subject_ref, roles, count,
                               not_requester, seq, expires_at)
        SELECT ${id}, id, ${step}, ${kind}, owner, team, project, ${[...asked.requesters]}::text[], 'pending', ${subject.ref},
               ${[...asked.roles]}::text[], ${asked.count}::integer, ${asked.notRequester}, last.next,
               ${asked.expiresAt}::timestamptz
        FROM runs, last WHERE runs.id = ${runId} AND runs.completed_at IS NULL
        ON CONFLICT (id) DO NOTHING RETURNING id`,
    );
  }

  /** Brings an approval to what its workflow says. One that is decided, or newer than that, stays as it is. */
  async project({ id, state, roles, votes, level, revision, payloadRef }: ApprovalProjection): Promise<void> {
    const approval = await this.find(id, undefined);
    if (!approval) return;
    const change = sql<{ id: string }>`
      UPDATE approvals SET state = ${state}, roles = ${[...roles]}::text[], votes = ${JSON.stringify(votes)}::jsonb,
        level = ${level}::integer, revision = ${revision}::integer, payload_ref = ${payloadRef}, decided_at = CASE WHEN ${state !== 'pending'} THEN now() END
      WHERE id = ${id} AND state = 'pending' AND revision < ${revision}::integer
      RETURNING id`;
    if (state === 'pending') await change.execute(this.db);
    else await this.events.tell(approval.runId, { type: 'approval', id, step: approval.step, state }, change);
  }

  async find(id: string, visible: Visible | undefined): Promise<Approval | undefined> {
    const rows = await this.selected({ visible }).where('a.id', '=', id).execute();
    return rows.map(toApproval)[0];
  }

  /** Oldest first: they have waited longest. */
  async list({ limit, cursor, ...filter }: ApprovalPage): Promise<readonly Approval[]> {
    const rows = await this.selected(filter)
      .$if(cursor !== undefined, (q) =>
        q.where(
          sql<boolean>`(a.created_at, a.id) > (SELECT c.created_at, c.id FROM approvals c WHERE c.id = ${cursor})`,
        ),
      )
      .orderBy('a.created_at')
      .orderBy('a.id')
      .limit(limit)
      .execute();
    return rows.map(toApproval);
  }

  private selected({ visible, runId, state, team, roles, minAge }: ApprovalFilter) {
    return this.db
      .selectFrom('approvals as a')
      .selectAll('a')
      .select(
        sql<number>`(SELECT coalesce(sum(r.cost_nanos), 0)::bigint FROM llm_requests r WHERE r.run_id = a.run_id)`.as(
          'cost_nanos',
        ),
      )
      .$if(visible !== undefined, (q) => q.where('a.owner', '=', visible?.owner ?? ''))
      .$if(visible?.project !== undefined, (q) => q.where('a.project', '=', visible?.project ?? ''))
      .$if(runId !== undefined, (q) => q.where('a.run_id', '=', runId ?? ''))
      .$if(state !== undefined, (q) => q.where('a.state', '=', state as ApprovalState))
      .$if(team !== undefined, (q) => q.where('a.team', '=', team as string))
      .$if(roles !== undefined, (q) => q.where(sql<boolean>`a.roles && ${[...(roles ?? [])]}::text[]`))
      .$if(minAge !== undefined, (q) => q.where(sql<boolean>`a.created_at <= now() - ${minAge} * interval '1 second'`));
  }
}

const toApproval = (row: Selectable<ApprovalsTable> & { readonly cost_nanos: NanoDollars }): Approval => ({
  id: row.id,
  runId: row.run_id,
  step: row.step,
  kind: row.kind,
  team: row.team,
  requesters: row.requesters,
  state: row.state,
  subjectRef: row.subject_ref,
  payloadRef: row.payload_ref,
  roles: row.roles,
  count: row.count,
  notRequester: row.not_requester,
  votes: row.votes,
  level: row.level,
  seq: row.seq,
  costNanos: row.cost_nanos,
  expiresAt: row.expires_at,
  createdAt: row.created_at,
  decidedAt: row.decided_at,
});
