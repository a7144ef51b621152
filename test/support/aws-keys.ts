import { vi } from 'vitest';
import { createCipher } from '../../storage/cipher.ts';
import { FixtureServer } from './fixture-server.ts';

/** KMS and Secrets Manager as far as the gateway uses them. The SDK finds it by its own environment. */
export class AwsKeys {
  readonly secrets = new Map<string, string>();
  readonly server = new FixtureServer();
  private readonly kms = new Map<string, ReturnType<typeof createCipher>>();

  async start(): Promise<this> {
    await this.server.start();
    this.server.reply = ({ headers, body }) => {
      const answer = this.answer(String(headers['x-amz-target']), body as Record<string, string>);
      return {
        status: answer ? 200 : 400,
        headers: { 'content-type': 'application/x-amz-json-1.1' },
        body: answer ?? { __type: 'NotFoundException', message: 'no such key' },
      };
    };
    vi.stubEnv('AWS_ENDPOINT_URL_KMS', this.server.url);
    vi.stubEnv('AWS_ENDPOINT_URL_SECRETS_MANAGER', this.server.url);
    vi.stubEnv('AWS_REGION', 'eu-central-1');
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIATEST');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'test');
    return this;
  }

  createKey(id: string): void {
    this.kms.set(id, createCipher(crypto.getRandomValues(Buffer.alloc(32))));
  }

  async stop(): Promise<void> {
    vi.unstubAllEnvs();
    await this.server.stop();
  }

  private answer(operation: string, body: Record<string, string>): object | undefined {
    const { KeyId = '', Plaintext = '', CiphertextBlob = '', SecretId = '' } = body;
    const key = this.kms.get(KeyId);
    switch (operation) {
      case 'TrentService.Encrypt':
        return key && { KeyId, CiphertextBlob: key.encrypt(Buffer.from(Plaintext, 'base64')).toString('base64') };
      case 'TrentService.Decrypt':
        return key && { KeyId, Plaintext: key.decrypt(Buffer.from(CiphertextBlob, 'base64')).toString('base64') };
      case 'secretsmanager.GetSecretValue':
        return this.secrets.has(SecretId) ? { SecretString: this.secrets.get(SecretId) } : undefined;
      default:
        return undefined;
    }
  }
}
