import { sql } from 'kysely';
import { insertBody, type SealedBody } from './bodies.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';

export interface NewAgentMessage {
  readonly id: string;
  readonly owner: string;
  readonly project: string | null;
  readonly runId: string | null;
  readonly sender: string;
  readonly recipient: string;
  readonly body: SealedBody;
}

export interface AgentMessage extends Omit<NewAgentMessage, 'body'> {
  readonly bodyRef: string;
  /** When its run was told; null while it was not, and for one that is for no run. */
  readonly deliveredAt: Date | null;
  readonly createdAt: Date;
}

export interface MessagePage {
  readonly visible: Visible | undefined;
  readonly recipient?: string | undefined;
  readonly runId?: string | undefined;
  readonly limit: number;
  /** Messages after this one. */
  readonly cursor?: string | undefined;
}

/** Messages between agents. */
export class AgentMessages {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Stores a message within the caller's transaction if `db` is one. */
  async insert({ body, ...message }: NewAgentMessage, db: Sql = this.db): Promise<void> {
    await sql`
      WITH body AS (${insertBody(body)})
      INSERT INTO agent_messages (id, owner, project, run_id, sender, recipient, body_ref)
      VALUES (${message.id}, ${message.owner}, ${message.project}, ${message.runId}, ${message.sender},
              ${message.recipient}, ${body.ref})`.execute(db);
  }

  async markDelivered(id: string): Promise<void> {
    await sql`UPDATE agent_messages SET delivered_at = coalesce(delivered_at, now()) WHERE id = ${id}`.execute(this.db);
  }

  async find(id: string, visible: Visible | undefined): Promise<AgentMessage | undefined> {
    return (await this.selected(visible).where('id', '=', id).execute()).map(toMessage)[0];
  }

  /** Oldest first. */
  async list({ visible, recipient, runId, limit, cursor }: MessagePage): Promise<readonly AgentMessage[]> {
    const rows = await this.selected(visible)
      .$if(recipient !== undefined, (q) => q.where('recipient', '=', recipient as string))
      .$if(runId !== undefined, (q) => q.where('run_id', '=', runId as string))
      .$if(cursor !== undefined, (q) =>
        q.where(
          sql<boolean>`(created_at, id) > (SELECT c.created_at, c.id FROM agent_messages c WHERE c.id = ${cursor})`,
        ),
      )
      .orderBy('created_at')
      .orderBy('id')
      .limit(limit)
      .execute();
    return rows.map(toMessage);
  }

  private selected(visible: Visible | undefined) {
    return this.db
      .selectFrom('agent_messages')
      .selectAll()
      .$if(visible !== undefined, (q) => q.where('owner', '=', visible?.owner ?? ''))
      .$if(visible?.project !== undefined, (q) => q.where('project', '=', visible?.project ?? ''));
  }
}

type Row = Awaited<ReturnType<ReturnType<AgentMessages['selected']>['execute']>>[number];

const toMessage = (row: Row): AgentMessage => ({
  id: row.id,
  owner: row.owner,
  project: row.project,
  runId: row.run_id,
  sender: row.sender,
  recipient: row.recipient,
  bodyRef: row.body_ref,
  deliveredAt: row.delivered_at,
  createdAt: row.created_at,
});
