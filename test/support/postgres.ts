import { inject } from 'vitest';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';

/** Opens the database that `configured` gateways use; to be destroyed by who opened it. */
export const openPostgres = (): Sql =>
  connectDatabase({ url: inject('postgres') ?? inject('embeddedPostgres'), maxConnections: 1, onError: () => {} });
