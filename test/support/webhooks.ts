import { sql } from 'kysely';
import { inject } from 'vitest';
import { connectDatabase } from '../../storage/postgres/database.ts';
import { Keyring } from '../../storage/postgres/keyring.ts';
import { type NewWebhookDelivery, Webhooks } from '../../storage/postgres/webhooks.ts';
import { ENCRYPTION_KEY } from './databases.ts';

export const RECEIVER_SECRET = `whsec_${Buffer.from('a secret of the receiver').toString('base64')}`;

export interface RecordedWebhooks {
  readonly webhooks: Webhooks;
  /** Records a delivery as a run would, and returns its id. */
  record(url: string, overrides?: Partial<NewWebhookDelivery>): Promise<string>;
  /** Every row of a table. */
  textOf(table: string): Promise<string>;
  close(): Promise<void>;
}

/** The webhooks of gateways that are `configured`. */
export async function connectWebhooks(): Promise<RecordedWebhooks> {
  const url = inject('postgres') ?? inject('embeddedPostgres');
  const db = connectDatabase({ url, maxConnections: 1, onError: () => {} });
  const webhooks = new Webhooks(db, await Keyring.open(db, { current: ENCRYPTION_KEY, previous: [] }));
  return {
    webhooks,
    record: (url, overrides) =>
      webhooks.record(db, {
        runId: `run-${crypto.randomUUID()}`,
        owner: 'master',
        project: null,
        type: 'run.completed',
        occurrence: 1,
        at: new Date(),
        data: {},
        url,
        secret: RECEIVER_SECRET,
        ...overrides,
      }),
    async textOf(table) {
      const { rows } = await sql<{ row: string }>`SELECT t::text AS row FROM ${sql.table(table)} t`.execute(db);
      return rows.map(({ row }) => row).join('\n');
    },
    close: () => db.destroy(),
  };
}
