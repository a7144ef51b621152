import { hkdfSync } from 'node:crypto';

const KEY_BYTES = 32;

/**
 * The key that signs sessions, the same in every front door. It depends on the master key too, so that changing either
 * ends all sessions.
 *
 * @param encryptionKey 32 bytes in hex (`GATEWAY_ENCRYPTION_KEY`).
 */
export function sessionKey(encryptionKey: string, masterKey: string): Uint8Array {
  const secret = Buffer.from(encryptionKey, 'hex');
  return new Uint8Array(hkdfSync('sha256', secret, masterKey, 'holdfast session v1', KEY_BYTES));
}
