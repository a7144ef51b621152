import { sql } from 'kysely';
import { newId } from '../../domain/ids.ts';
import type { NanoDollars, Price } from '../../domain/money.ts';
import type { Sql } from './database.ts';
import type { ProviderBatchState } from './tables/batches.ts';

export interface NewProviderBatch {
  readonly batchId: string;
  readonly provider: string;
  readonly model: string;
  /** The stored key it is submitted with; null for the provider's configured one. */
  readonly providerKeyId: string | null;
  /** null for a model without a price. */
  readonly price: Price | null;
}

export interface StoredProviderBatch extends NewProviderBatch {
  /** Owns the claims of its lines. */
  readonly id: string;
  /** The provider's own id, once it is known. */
  readonly providerBatchId: string | null;
  readonly state: ProviderBatchState;
  readonly createdAt: Date;
}

/**
 * Batches of the providers' own APIs. Each is the owner of its lines' attempts, so that these outlive every process: its
 * lease lasts as long as an answer may come.
 */
export class ProviderBatchStore {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** Stores one that gathers lines. @param leaseUntil Until when its claims are good. */
  async open(batch: NewProviderBatch, leaseUntil: Date): Promise<string> {
    const id = newId('pbatch');
    await sql`
      WITH lease AS (INSERT INTO processes (id, lease_expires_at) VALUES (${id}, ${leaseUntil}))
      INSERT INTO provider_batches (id, batch_id, provider, model, provider_key_id, price, state)
      VALUES (${id}, ${batch.batchId}, ${batch.provider}, ${batch.model}, ${batch.providerKeyId},
              ${batch.price && JSON.stringify(batch.price)}::jsonb, 'gathering')`.execute(this.db);
    return id;
  }

  /** Oldest first. */
  async of(batchId: string): Promise<readonly StoredProviderBatch[]> {
    const query = this.db.selectFrom('provider_batches').selectAll().where('batch_id', '=', batchId);
    return (await query.orderBy('id').execute()).map((row) => ({
      id: row.id,
      batchId: row.batch_id,
      provider: row.provider,
      model: row.model,
      providerKeyId: row.provider_key_id,
      price: row.price,
      providerBatchId: row.provider_batch_id,
      state: row.state,
      createdAt: row.created_at,
    }));
  }

  async set(id: string, state: ProviderBatchState, providerBatchId: string | null = null): Promise<void> {
    await sql`
      UPDATE provider_batches SET state = ${state}, provider_batch_id = coalesce(${providerBatchId}, provider_batch_id)
      WHERE id = ${id}`.execute(this.db);
  }

  /** Ends a batch, and with its lease the claims that are left. */
  async end(id: string, state: 'ended' | 'refused'): Promise<void> {
    await sql`
      WITH lease AS (DELETE FROM processes WHERE id = ${id})
      UPDATE provider_batches SET state = ${state} WHERE id = ${id}`.execute(this.db);
  }

  /** Takes back the claims of a batch that no provider has: nobody called anything. */
  async unclaim({ id, batchId }: Pick<StoredProviderBatch, 'id' | 'batchId'>): Promise<void> {
    await sql`
      DELETE FROM attempts a USING llm_requests r
      WHERE r.run_id = ${batchId} AND a.request_id = r.id AND a.owner = ${id} AND a.state = 'claimed'`.execute(this.db);
  }

  /** Requests whose lines have no end yet. */
  async claimed({ id, batchId }: Pick<StoredProviderBatch, 'id' | 'batchId'>): Promise<readonly string[]> {
    const { rows } = await sql<{ id: string }>`
      SELECT r.id FROM llm_requests r JOIN attempts a ON a.request_id = r.id
      WHERE r.run_id = ${batchId} AND a.owner = ${id} AND a.state = 'claimed'`.execute(this.db);
    return rows.map((row) => row.id);
  }

  /** Lines that it answered and that have no end yet, by their numbers. */
  async answered(
    { id, batchId }: Pick<StoredProviderBatch, 'id' | 'batchId'>,
    limit: number,
  ): Promise<readonly number[]> {
    const { rows } = await sql<{ n: number }>`
      SELECT l.n FROM batch_lines l JOIN attempts a ON a.request_id = l.batch_id || '-' || l.n
      WHERE l.batch_id = ${batchId} AND l.state = 'open' AND a.owner = ${id} AND a.state = 'succeeded'
      LIMIT ${limit}`.execute(this.db);
    return rows.map(({ n }) => n);
  }

  /** What all calls of a batch of ours cost so far, those without an end at their most. */
  async committed(batchId: string): Promise<NanoDollars> {
    const { rows } = await sql<{ nanos: number }>`
      SELECT coalesce(sum(CASE WHEN a.state = 'claimed' THEN a.max_cost_nanos ELSE a.cost_nanos END), 0)::bigint AS nanos
      FROM llm_requests r JOIN attempts a ON a.request_id = r.id WHERE r.run_id = ${batchId}`.execute(this.db);
    return rows[0]?.nanos ?? 0;
  }
}
