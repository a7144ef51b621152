import { ConfigError } from '../config/yaml-source.ts';
import { connectDatabase, migrate } from '../storage/postgres/database.ts';
import { loadEnvironment } from './options.ts';

/** `holdfast migrate`: brings the schema of DATABASE_URL up to date. */
export async function migrateDatabase(): Promise<void> {
  const { settings, logger } = loadEnvironment();
  if (!settings.databaseUrl) {
    throw new ConfigError('DATABASE_URL is not set. The embedded database is migrated by every start.');
  }
  const onError = (error: Error) => logger.warn({ err: error }, 'A connection was lost');
  const db = connectDatabase({ url: settings.databaseUrl, maxConnections: 2, onError });
  try {
    const applied = await migrate(db);
    logger.info(applied.length > 0 ? `Applied ${applied.join(', ')}` : 'The schema is up to date');
  } finally {
    await db.destroy();
  }
}
