import { type RawBuilder, sql } from 'kysely';
import type { AgentDefinition, AgentHealth } from '../../domain/agent.ts';
import type { Caller } from '../../domain/caller.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import type { Cipher } from '../cipher.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';

export interface NewAgent {
  /** As in `llm_requests`. */
  readonly owner: string;
  readonly project: string | null;
  /** Unique within its owner. */
  readonly name: string;
  readonly description: string;
  readonly capabilities: readonly string[];
  readonly definition: AgentDefinition;
  /** Seconds after which one that was silent counts as unhealthy; null for one that need not report. */
  readonly heartbeatSeconds: number | null;
}

export interface Agent extends NewAgent {
  readonly id: string;
  readonly health: AgentHealth;
  /** Tasks it said it is busy with, and steps that it does here. */
  readonly load: number;
  /** Its registration is one. null where none is expected and none came. */
  readonly heartbeatAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface AgentPage {
  readonly visible: Visible | undefined;
  readonly capability?: string | undefined;
  readonly kind?: AgentDefinition['kind'] | undefined;
  readonly limit: number;
  /** Agents older than this one. */
  readonly cursor?: string | undefined;
}

export interface CapabilityCount {
  readonly capability: string;
  readonly agents: number;
  readonly healthy: number;
}

/** Who has something done. */
export type AgentUser = Pick<Caller, 'owner' | 'project'>;

const LOAD = sql`a.load + (SELECT count(*)::integer FROM run_steps s WHERE s.agent_id = a.id AND s.state = 'running')`;
const HEALTHY = sql`(
  a.heartbeat_seconds IS NULL OR a.heartbeat_at >= now() - a.heartbeat_seconds * interval '1 second')`;
const SHOWN = sql`
  a.id, a.owner, a.project, a.name, a.description, a.capabilities, a.definition, a.heartbeat_seconds, a.heartbeat_at,
  a.created_at, a.updated_at, ${LOAD} AS load, ${HEALTHY} AS healthy`;

/** Registered agents. Those of the master key are for everybody to see and use. */
export class Agents {
  private readonly db: Sql;
  private readonly cipher: Cipher;

  constructor(db: Sql, cipher: Cipher) {
    this.db = db;
    this.cipher = cipher;
  }

  /**
   * Adds an agent, or replaces the one of the same owner and name, which keeps its id. Throws `caller_conflict` when the
   * name belongs to another project of the owner.
   */
  async register(agent: NewAgent): Promise<{ readonly agent: Agent; readonly isNew: boolean }> {
    const { owner, project, name, description, definition, heartbeatSeconds } = agent;
    const id = newId('agent');
    const capabilities = [...new Set(agent.capabilities)];
    const sealed = this.cipher.encrypt(Buffer.from(JSON.stringify(definition)));
    const { rows } = await sql<Row>`
      INSERT INTO agents AS a
        (id, owner, project, name, kind, description, capabilities, definition, heartbeat_seconds, heartbeat_at)
      VALUES
        (${id}, ${owner}, ${project}, ${name}, ${definition.kind}, ${description}, ${capabilities}::text[], ${sealed},
         ${heartbeatSeconds}::integer, CASE WHEN ${heartbeatSeconds}::integer IS NOT NULL THEN now() END)
      ON CONFLICT (owner, name) DO UPDATE SET
        kind = excluded.kind, description = excluded.description, capabilities = excluded.capabilities,
        definition = excluded.definition, heartbeat_seconds = excluded.heartbeat_seconds,
        heartbeat_at = excluded.heartbeat_at, load = 0, updated_at = now()
      WHERE a.project IS NOT DISTINCT FROM excluded.project
      RETURNING ${SHOWN}`.execute(this.db);
    if (rows[0]) return { agent: await this.toAgent(rows[0]), isNew: rows[0].id === id };
    const message = `Another project has an agent named '${name}' already.`;
    throw new HoldfastError('caller_conflict', message, { param: 'name' });
  }

  /** Whether there was such an agent. */
  async remove(id: string, visible: Visible | undefined): Promise<boolean> {
    const { numAffectedRows } = await sql`
      DELETE FROM agents a WHERE a.id = ${id} AND ${ownedBy(visible)}`.execute(this.db);
    return numAffectedRows === 1n;
  }

  /**
   * Notes that an agent is there. Returns it, or undefined if there is none.
   * @param load Tasks it is busy with; undefined leaves what it said before.
   */
  async heartbeat(
    id: string,
    visible: Visible | undefined,
    { load }: { readonly load: number | undefined },
  ): Promise<Agent | undefined> {
    return this.first(sql<Row>`
      UPDATE agents a SET heartbeat_at = now(), load = coalesce(${load ?? null}::integer, a.load)
      WHERE a.id = ${id} AND ${ownedBy(visible)}
      RETURNING ${SHOWN}`);
  }

  /** An agent that its caller may see. */
  async get(id: string, visible: Visible | undefined): Promise<Agent | undefined> {
    return this.first(sql<Row>`SELECT ${SHOWN} FROM agents a WHERE a.id = ${id} AND ${seenBy(visible)}`);
  }

  /** An agent that somebody may use, by its id or name: their own before everybody's. */
  async find(idOrName: string, user: AgentUser): Promise<Agent | undefined> {
    return this.first(sql<Row>`
      SELECT ${SHOWN} FROM agents a
      WHERE (a.id = ${idOrName} OR a.name = ${idOrName}) AND ${usableBy(user)}
      ORDER BY (a.owner = ${user.owner}) DESC, (a.id = ${idOrName}) DESC LIMIT 1`);
  }

  /** The healthy agent with a capability that has least to do, any one of several; undefined if none is healthy. */
  async choose(capability: string, user: AgentUser): Promise<Agent | undefined> {
    return this.first(sql<Row>`
      SELECT ${SHOWN} FROM agents a
      WHERE ${capability} = ANY(a.capabilities) AND ${HEALTHY} AND ${usableBy(user)}
      ORDER BY ${LOAD}, random() LIMIT 1`);
  }

  /** Newest first. */
  async list({ visible, capability, kind, limit, cursor }: AgentPage): Promise<readonly Agent[]> {
    const { rows } = await sql<Row>`
      SELECT ${SHOWN} FROM agents a
      WHERE ${seenBy(visible)}
        AND (${capability ?? null}::text IS NULL OR ${capability ?? null} = ANY(a.capabilities))
        AND (${kind ?? null}::text IS NULL OR a.kind = ${kind ?? null})
        AND (${cursor ?? null}::text IS NULL OR a.id < ${cursor ?? null})
      ORDER BY a.id DESC LIMIT ${limit}`.execute(this.db);
    return Promise.all(rows.map((row) => this.toAgent(row)));
  }

  /** What agents that a caller sees can do, and how many of them. */
  async capabilities(visible: Visible | undefined): Promise<readonly CapabilityCount[]> {
    const { rows } = await sql<CapabilityCount>`
      SELECT c AS capability, count(*)::integer AS agents, (count(*) FILTER (WHERE ${HEALTHY}))::integer AS healthy
      FROM agents a, unnest(a.capabilities) AS c
      WHERE ${seenBy(visible)}
      GROUP BY c ORDER BY c`.execute(this.db);
    return rows;
  }

  private async first(query: RawBuilder<Row>): Promise<Agent | undefined> {
    const { rows } = await query.execute(this.db);
    return rows[0] && this.toAgent(rows[0]);
  }

  private async toAgent(row: Row): Promise<Agent> {
    return {
      id: row.id,
      owner: row.owner,
      project: row.project,
      name: row.name,
      description: row.description,
      capabilities: row.capabilities,
      definition: JSON.parse((await this.cipher.decrypt(row.definition)).toString()) as AgentDefinition,
      heartbeatSeconds: row.heartbeat_seconds,
      health: row.healthy ? 'healthy' : 'unhealthy',
      load: row.load,
      heartbeatAt: row.heartbeat_at,
      createdAt: row.created_at,
      updatedAt: row.updated_at,
    };
  }
}

/** What a caller may change. */
const ownedBy = (visible: Visible | undefined): RawBuilder<boolean> =>
  visible
    ? sql`(a.owner = ${visible.owner} AND (${visible.project ?? null}::text IS NULL OR a.project = ${visible.project ?? null}))`
    : sql`true`;

const EVERYBODYS = sql`(a.owner = 'master' AND a.project IS NULL)`;

const seenBy = (visible: Visible | undefined): RawBuilder<boolean> => sql`(${ownedBy(visible)} OR ${EVERYBODYS})`;

const usableBy = ({ owner, project }: AgentUser): RawBuilder<boolean> =>
  seenBy({ owner, ...(project !== null && { project }) });

interface Row {
  readonly id: string;
  readonly owner: string;
  readonly project: string | null;
  readonly name: string;
  readonly description: string;
  readonly capabilities: string[];
  readonly definition: Buffer;
  readonly heartbeat_seconds: number | null;
  readonly heartbeat_at: Date | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly load: number;
  readonly healthy: boolean;
}
