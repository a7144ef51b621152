import { z } from 'zod';
import type { ProviderType } from './adapter.ts';

/** As a provider's `api_key`: its keys are in the database, and nowhere else. */
export const STORED = 'stored';

/** What one call authenticates with, in place of what its provider was configured with. */
export type Credential = ApiKey | AwsKey;

export interface ApiKey {
  readonly apiKey: string;
}

export interface AwsKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** What fits into a header. */
const token = z.string().regex(/^[\x21-\x7e]+$/);
const awsKey = z.strictObject({ accessKeyId: token, secretAccessKey: token, sessionToken: token.optional() });

/**
 * The credential that `secret` spells: an API key, or for Bedrock `accessKeyId:secretAccessKey[:sessionToken]` or JSON
 * with these fields. undefined if it spells none.
 */
export function parseCredential(type: ProviderType, secret: string): Credential | undefined {
  if (type === 'bedrock') return awsKey.safeParse(awsFields(secret)).data;
  const apiKey = token.safeParse(secret).data;
  return apiKey === undefined ? undefined : { apiKey };
}

function awsFields(secret: string): unknown {
  if (!secret.startsWith('{')) {
    const [accessKeyId, secretAccessKey, sessionToken] = secret.split(':');
    return { accessKeyId, secretAccessKey, sessionToken };
  }
  try {
    return JSON.parse(secret);
  } catch {
    return undefined;
  }
}

const HINT_LENGTH = 4;
/** Of a shorter key the last characters would be too much of it. */
const MIN_LENGTH_FOR_HINT = 12;

/** The last characters, to recognise a key by; of an AWS credential those of its id, which is no secret. */
export function hintOf(credential: Credential): string {
  const shown = 'apiKey' in credential ? credential.apiKey : credential.accessKeyId;
  return shown.length < MIN_LENGTH_FOR_HINT ? '' : shown.slice(-HINT_LENGTH);
}

/** What must not be seen anywhere. */
export function secretsOf(credential: Credential | undefined): readonly string[] {
  if (!credential) return [];
  if ('apiKey' in credential) return [credential.apiKey];
  const { accessKeyId, secretAccessKey, sessionToken } = credential;
  return [secretAccessKey, accessKeyId, ...(sessionToken ? [sessionToken] : [])];
}
