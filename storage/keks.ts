import { createHash } from 'node:crypto';
import { HoldfastError } from '../domain/errors.ts';
import { createCipher, type KeyCipher } from './cipher.ts';

/** A key-encryption key: wraps the data keys that seal what is stored. */
export interface Kek {
  /** Names the key beside what it wrapped; says nothing about it. */
  readonly id: string;
  wrap(dataKey: Buffer): Promise<Buffer>;
  unwrap(wrapped: Buffer): Promise<Buffer>;
  /** Reads data of version 1, which such a key sealed itself; undefined for a key that never leaves its service. */
  readonly cipher?: KeyCipher;
}

const HEX_KEY = /^[0-9a-f]{64}$/i;
const KMS = 'aws-kms:';
const SECRETS_MANAGER = 'aws-secretsmanager:';

/**
 * @param source 32 bytes in hex, `aws-kms:<key id or ARN>`, or `aws-secretsmanager:<secret id>` of a secret that holds
 * the 32 bytes in hex. AWS is reached by its SDK's own environment.
 */
export async function openKek(source: string): Promise<Kek> {
  if (source.startsWith(KMS)) return kmsKek(source.slice(KMS.length));
  if (!source.startsWith(SECRETS_MANAGER)) return localKek(source);
  const secretId = source.slice(SECRETS_MANAGER.length);
  const secret = await readSecret(secretId);
  if (HEX_KEY.test(secret)) return localKek(secret);
  throw new HoldfastError('gateway_internal', `The secret '${secretId}' does not hold 32 bytes in hex.`);
}

function localKek(hexKey: string): Kek {
  const cipher = createCipher(hexKey);
  const id = createHash('sha256').update(Buffer.from(hexKey, 'hex')).digest('hex').slice(0, 16);
  return {
    id: `local:${id}`,
    cipher,
    wrap: async (dataKey) => cipher.encrypt(dataKey),
    unwrap: async (wrapped) => cipher.decrypt(wrapped),
  };
}

/** The SDKs are loaded where they are used: most gateways have neither. */
async function kmsKek(KeyId: string): Promise<Kek> {
  const { DecryptCommand, EncryptCommand, KMSClient } = await import('@aws-sdk/client-kms');
  const kms = new KMSClient();
  return {
    id: KMS + KeyId,
    async wrap(Plaintext) {
      const { CiphertextBlob } = await reaching('KMS', kms.send(new EncryptCommand({ KeyId, Plaintext })));
      return toBuffer(CiphertextBlob);
    },
    async unwrap(CiphertextBlob) {
      const { Plaintext } = await reaching('KMS', kms.send(new DecryptCommand({ KeyId, CiphertextBlob })));
      return toBuffer(Plaintext);
    },
  };
}

async function readSecret(SecretId: string): Promise<string> {
  const { GetSecretValueCommand, SecretsManagerClient } = await import('@aws-sdk/client-secrets-manager');
  const command = new GetSecretValueCommand({ SecretId });
  const { SecretString } = await reaching('Secrets Manager', new SecretsManagerClient().send(command));
  return SecretString?.trim() ?? '';
}

async function reaching<T>(service: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const reason = error instanceof Error ? error.name : 'unknown error';
    throw new HoldfastError('gateway_unavailable', `AWS ${service} did not give the encryption key (${reason}).`, {
      cause: error,
    });
  }
}

function toBuffer(bytes: Uint8Array | undefined): Buffer {
  if (bytes) return Buffer.from(bytes);
  throw new HoldfastError('gateway_unavailable', 'AWS KMS answered without a key.');
}
