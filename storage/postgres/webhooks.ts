import { sql } from 'kysely';
import { newId } from '../../domain/ids.ts';
import type { DeliveryState, WebhookEvent } from '../../domain/webhook.ts';
import type { Cipher } from '../cipher.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';

export interface NewWebhookDelivery {
  readonly runId: string;
  /** As the run has them: who may see the delivery. */
  readonly owner: string;
  readonly project: string | null;
  readonly type: WebhookEvent;
  /** Which one of its type in the run, from 1: a run may need input more than once. */
  readonly occurrence: number;
  readonly at: Date;
  /** `data` of the payload. */
  readonly data: object;
  /** Checked by `checkWebhookUrl` before. */
  readonly url: string;
  /** Checked by `checkWebhookSecret` before. */
  readonly secret: string;
}

/** What is sent, and where to. */
export interface OpenWebhook {
  readonly id: string;
  readonly url: string;
  readonly secret: string;
  readonly body: string;
}

export interface WebhookAttempt {
  readonly at: Date;
  /** null when there was no answer. */
  readonly status: number | null;
  /** Why there was none. */
  readonly error: string | null;
  readonly latencyMs: number;
}

/** A delivery as its owner sees it: without payload and secret. */
export interface WebhookDelivery {
  readonly id: string;
  readonly runId: string;
  readonly type: WebhookEvent;
  /** Without its query, which may hold a token. */
  readonly url: string;
  readonly state: DeliveryState;
  readonly createdAt: Date;
  /** null unless it is delivered. */
  readonly deliveredAt: Date | null;
  readonly attempts: readonly (WebhookAttempt & { readonly n: number })[];
}

export interface WebhookPage {
  readonly runId: string;
  readonly visible: Visible | undefined;
  readonly limit: number;
  /** Deliveries older than this one. */
  readonly cursor?: string | undefined;
}

/** What receivers are told about runs, from its record to the answer of the receiver. */
export class Webhooks {
  private readonly db: Sql;
  private readonly cipher: Cipher;

  constructor(db: Sql, cipher: Cipher) {
    this.db = db;
    this.cipher = cipher;
  }

  /**
   * Records what is to be delivered, with its payload as it is sent from then on, and returns its id. Idempotent by run,
   * type and occurrence.
   * @param db A transaction, so that the delivery is there if and only if what it tells of is.
   */
  async record(db: Sql, delivery: NewWebhookDelivery): Promise<string> {
    const { runId, owner, project, type, occurrence, at, data, url, secret } = delivery;
    const made = await db
      .insertInto('webhook_deliveries')
      .values({
        id: newId('evt'),
        run_id: runId,
        owner,
        project,
        type,
        occurrence,
        url: withoutQuery(url),
        receiver: this.seal({ url, secret }),
        payload: this.seal({ type, timestamp: at.toISOString(), data }),
      })
      .onConflict((conflict) => conflict.columns(['run_id', 'type', 'occurrence']).doNothing())
      .returning('id')
      .executeTakeFirst();
    if (made) return made.id;
    const { id } = await db
      .selectFrom('webhook_deliveries')
      .select('id')
      .where((eb) => eb.and({ run_id: runId, type, occurrence }))
      .executeTakeFirstOrThrow();
    return id;
  }

  /** What to send; undefined if it was delivered or given up, or if this is not its latest send. */
  async open(id: string, send: number): Promise<OpenWebhook | undefined> {
    const row = await this.db
      .selectFrom('webhook_deliveries')
      .select(['receiver', 'payload'])
      .where((eb) => eb.and({ id, send, state: 'pending' }))
      .executeTakeFirst();
    if (!row) return undefined;
    const { url, secret } = JSON.parse(await this.unseal(row.receiver)) as { url: string; secret: string };
    return { id, url, secret, body: await this.unseal(row.payload) };
  }

  /** Adds a try, and closes the delivery if it was the last one needed. */
  async journal(id: string, attempt: WebhookAttempt & { readonly delivered: boolean }): Promise<void> {
    const { at, status, error, latencyMs, delivered } = attempt;
    await sql`
      WITH delivery AS (
        UPDATE webhook_deliveries SET
          attempts = attempts + 1,
          state = CASE WHEN ${delivered} THEN 'delivered' ELSE state END,
          delivered_at = CASE WHEN ${delivered} THEN clock_timestamp() ELSE delivered_at END
        WHERE id = ${id}
        RETURNING id, attempts
      )
      INSERT INTO webhook_attempts (delivery_id, n, at, status, error, latency_ms)
      SELECT id, attempts, ${at}::timestamptz, ${status}::integer, ${error}::text, ${latencyMs}::integer
      FROM delivery`.execute(this.db);
  }

  /** Gives a delivery up, unless it is over or was sent again meanwhile. */
  async fail(id: string, send: number): Promise<void> {
    await this.db
      .updateTable('webhook_deliveries')
      .set({ state: 'failed' })
      .where((eb) => eb.and({ id, send, state: 'pending' }))
      .execute();
  }

  /**
   * Makes a delivery pending once more and returns the number of its send. One that is pending keeps its number: either
   * that send is under way, or nobody works on it and it can be started again.
   */
  async resend(id: string): Promise<number> {
    const { send } = await this.db
      .updateTable('webhook_deliveries')
      .set({
        send: sql<number>`send + CASE WHEN state = 'pending' THEN 0 ELSE 1 END`,
        state: 'pending',
        delivered_at: null,
      })
      .where('id', '=', id)
      .returning('send')
      .executeTakeFirstOrThrow();
    return send;
  }

  async get(id: string, visible: Visible | undefined): Promise<WebhookDelivery | undefined> {
    const row = await this.shown(visible).where('d.id', '=', id).executeTakeFirst();
    return row && toDelivery(row);
  }

  /** Newest first. */
  async list({ runId, visible, limit, cursor }: WebhookPage): Promise<readonly WebhookDelivery[]> {
    const rows = await this.shown(visible)
      .where('d.run_id', '=', runId)
      .$if(cursor !== undefined, (query) => query.where('d.id', '<', cursor as string))
      .orderBy('d.id', 'desc')
      .limit(limit)
      .execute();
    return rows.map(toDelivery);
  }

  private shown(visible: Visible | undefined) {
    return this.db
      .selectFrom('webhook_deliveries as d')
      .$if(visible !== undefined, (query) => query.where((eb) => eb.and({ ...visible })))
      .select(['d.id', 'd.run_id', 'd.type', 'd.url', 'd.state', 'd.created_at', 'd.delivered_at'])
      .select(
        sql<readonly AttemptRow[]>`coalesce((
          SELECT json_agg(json_build_object(
            'n', a.n, 'at', a.at, 'status', a.status, 'error', a.error, 'latencyMs', a.latency_ms
          ) ORDER BY a.n)
          FROM webhook_attempts a WHERE a.delivery_id = d.id), '[]'::json)`.as('tries'),
      );
  }

  private seal(value: object): Buffer {
    return this.cipher.encrypt(Buffer.from(JSON.stringify(value)));
  }

  private async unseal(sealed: Buffer): Promise<string> {
    return (await this.cipher.decrypt(sealed)).toString();
  }
}

function withoutQuery(text: string): string {
  const { origin, pathname } = new URL(text);
  return origin + pathname;
}

interface AttemptRow {
  readonly n: number;
  /** ISO 8601. */
  readonly at: string;
  readonly status: number | null;
  readonly error: string | null;
  readonly latencyMs: number;
}

interface ShownRow {
  readonly id: string;
  readonly run_id: string;
  readonly type: WebhookEvent;
  readonly url: string;
  readonly state: DeliveryState;
  readonly created_at: Date;
  readonly delivered_at: Date | null;
  readonly tries: readonly AttemptRow[];
}

const toDelivery = ({ run_id, created_at, delivered_at, tries, ...row }: ShownRow): WebhookDelivery => ({
  ...row,
  runId: run_id,
  createdAt: created_at,
  deliveredAt: delivered_at,
  attempts: tries.map((attempt) => ({ ...attempt, at: new Date(attempt.at) })),
});
