import { hkdfSync } from 'node:crypto';

const KEY_BYTES = 32;

/**
 * The key that signs sessions, the same in every front door. It depends on the master key too, so that changing either
 * ends all sessions.
 *
 * @param encryptionKey `GATEWAY_ENCRYPTION_KEY`. Where it only names a key of AWS, the master key alone is the secret.
 */
export function sessionKey(encryptionKey: string, masterKey: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', masterKey, encryptionKey, 'holdfast session v1', KEY_BYTES));
}
