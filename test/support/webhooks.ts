import { sql } from 'kysely';
import { NOBODY } from '../../domain/scope.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import { connectDatabase } from '../../storage/postgres/database.ts';
import { Keyring } from '../../storage/postgres/keyring.ts';
import { RunEvents } from '../../storage/postgres/run-events.ts';
import { Runs } from '../../storage/postgres/runs.ts';
import { type NewWebhookDelivery, Webhooks } from '../../storage/postgres/webhooks.ts';
import { ENCRYPTION_KEY } from './databases.ts';
import { inject } from './inject.ts';

export const RECEIVER_SECRET = `whsec_${Buffer.from('a secret of the receiver').toString('base64')}`;

export interface RecordedWebhooks {
  readonly webhooks: Webhooks;
  /** Records a delivery as a run would, and returns its id. */
  record(url: string, overrides?: Partial<NewWebhookDelivery>): Promise<string>;
  /** Stores the run that deliveries are of. */
  storeRun(id: string, owner?: string, project?: string): Promise<void>;
  /** Every row of a table. */
  textOf(table: string): Promise<string>;
  close(): Promise<void>;
}

/** The webhooks of gateways that are `configured`. */
export async function connectWebhooks(): Promise<RecordedWebhooks> {
  const url = inject('postgres') ?? inject('embeddedPostgres');
  const db = connectDatabase({ url, maxConnections: 1, onError: () => {} });
  const cipher = await Keyring.open(db, { current: ENCRYPTION_KEY, previous: [] });
  const webhooks = new Webhooks(db, cipher);
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
    storeRun: (id, owner = 'master', project) =>
      new Runs(db, new RunEvents(db, cipher)).insert(db, {
        id,
        kind: 'chat.completion',
        owner,
        attribution: { ...NOBODY, project: project ?? null },
        model: null,
        priority: 3,
        input: new Bodies(db, cipher).seal({}),
        metadata: {},
        deadlineAt: new Date(),
        maxCostNanos: null,
        webhook: null,
        retryOf: null,
        rerunOf: null,
      }),
    async textOf(table) {
      const { rows } = await sql<{ row: string }>`SELECT t::text AS row FROM ${sql.table(table)} t`.execute(db);
      return rows.map(({ row }) => row).join('\n');
    },
    close: () => db.destroy(),
  };
}
