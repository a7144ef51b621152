import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';

const VERSION = 1;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const HEADER_BYTES = 1 + IV_BYTES + TAG_BYTES;

/** Encrypts what is stored. */
export interface Cipher {
  encrypt(plain: Buffer): Buffer;
  /** Throws when the data was changed or belongs to another key. */
  decrypt(sealed: Buffer): Buffer | Promise<Buffer>;
  /** A content hash that only holders of the key can compute. */
  fingerprint(plain: Buffer): string;
}

/** A cipher of one key. */
export interface KeyCipher extends Cipher {
  decrypt(sealed: Buffer): Buffer;
}

/**
 * AES-256-GCM under one key. Layout: version (1 byte), IV (12), tag (16), ciphertext.
 * @param secret 32 bytes, or the same in hex.
 */
export function createCipher(secret: string | Buffer): KeyCipher {
  const key = typeof secret === 'string' ? Buffer.from(secret, 'hex') : secret;
  return {
    encrypt(plain) {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv('aes-256-gcm', key, iv);
      const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
      return Buffer.concat([Buffer.of(VERSION), iv, cipher.getAuthTag(), sealed]);
    },
    decrypt(sealed) {
      if (sealed[0] !== VERSION) throw new Error(`Unknown cipher version ${sealed[0]}`);
      const iv = sealed.subarray(1, 1 + IV_BYTES);
      const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES });
      decipher.setAuthTag(sealed.subarray(1 + IV_BYTES, HEADER_BYTES));
      return Buffer.concat([decipher.update(sealed.subarray(HEADER_BYTES)), decipher.final()]);
    },
    fingerprint: (plain) => createHmac('sha256', key).update(plain).digest('base64url'),
  };
}
