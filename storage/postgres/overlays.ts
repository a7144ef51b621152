import { sql } from 'kysely';
import type { Sql } from './database.ts';

/** What operators stored over the config; checked against its schema by whoever uses it. */
export interface Overlay {
  readonly version: number;
  readonly models: readonly StoredModel[];
  /** Routing; null where gateway.yaml decides. */
  readonly policy: unknown;
  /** null where gateway.yaml decides. */
  readonly settings: unknown;
}

export interface StoredModel {
  readonly id: string;
  /** As in a models file. */
  readonly entry: unknown;
  /** ISO date. */
  readonly updated: string;
}

/** What is stored over gateway.yaml, by column. */
export type OverlayPart = 'policy' | 'settings';

/** Models, routing and settings that are in the database. Every change raises the version that processes look at. */
export class Overlays {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** undefined while the version is still `known`. */
  async read(known: number | undefined): Promise<Overlay | undefined> {
    const { rows } = await sql<Overlay>`
      SELECT version, policy, settings, coalesce((
        SELECT json_agg(json_build_object(
          'id', id, 'entry', entry, 'updated', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')) ORDER BY id)
        FROM models), '[]'::json) AS models
      FROM routing_overlay WHERE version IS DISTINCT FROM ${known ?? null}::bigint`.execute(this.db);
    return rows[0];
  }

  async putModel(id: string, entry: object): Promise<void> {
    await sql`
      WITH raised AS (UPDATE routing_overlay SET version = version + 1)
      INSERT INTO models (id, entry) VALUES (${id}, ${JSON.stringify(entry)}::jsonb)
      ON CONFLICT (id) DO UPDATE SET entry = excluded.entry, updated_at = now()`.execute(this.db);
  }

  /** true if there was one. */
  async removeModel(id: string): Promise<boolean> {
    const { rows } = await sql`
      WITH raised AS (UPDATE routing_overlay SET version = version + 1)
      DELETE FROM models WHERE id = ${id} RETURNING id`.execute(this.db);
    return rows.length > 0;
  }

  /** @param value null goes back to gateway.yaml. */
  async put(part: OverlayPart, value: object | null): Promise<void> {
    const json = value === null ? null : JSON.stringify(value);
    await sql`UPDATE routing_overlay SET version = version + 1, ${sql.ref(part)} = ${json}::jsonb`.execute(this.db);
  }
}
