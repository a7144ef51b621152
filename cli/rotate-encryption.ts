import { ConfigError } from '../config/yaml-source.ts';
import { connectDatabase } from '../storage/postgres/database.ts';
import { Keyring } from '../storage/postgres/keyring.ts';
import { loadEnvironment } from './options.ts';

/** `holdfast keys rotate-encryption`: re-wraps the data keys with the current encryption key and makes a new one. */
export async function rotateEncryption(): Promise<void> {
  const { settings, logger } = loadEnvironment();
  const { databaseUrl, encryptionKey, previousEncryptionKeys } = settings;
  if (!databaseUrl || !encryptionKey) {
    throw new ConfigError('DATABASE_URL and GATEWAY_ENCRYPTION_KEY have to be set, as the gateway has them.');
  }
  const onError = (error: Error) => logger.warn({ err: error }, 'A connection was lost');
  const db = connectDatabase({ url: databaseUrl, maxConnections: 2, onError });
  try {
    const keyring = await Keyring.open(db, { current: encryptionKey, previous: previousEncryptionKeys });
    const { rewrapped } = await keyring.rotate();
    logger.info(`Re-wrapped ${rewrapped} data keys and made a new one`);
  } finally {
    await db.destroy();
  }
}
