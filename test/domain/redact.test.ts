import { describe, expect, it } from 'vitest';
import { redact } from '../../domain/redact.ts';

describe('a change in the audit log', () => {
  it('keeps what was set', () => {
    const change = {
      name: 'ci',
      rateLimit: { rpm: 60, tpm: 100_000, concurrent: null },
      tokens_per_minute: 5,
      allowedModels: ['house', 'openai/gpt-5-mini'],
      scope: { type: 'key', id: 'vk-1' },
      team: 'task-force-one',
      costCap: 0.5,
      isActive: false,
    };
    expect(redact(change)).toEqual(change);
  });

  it.each([
    'key',
    'api_key',
    'apiKey',
    'secret_access_key',
    'client-secret',
    'webhookSecret',
    'password',
    'sessionToken',
    'system_prompt',
    'messages',
    'template',
  ])('names the field %s without what is in it', (name) => {
    expect(redact({ provider: { [name]: 'hunter2' } })).toEqual({ provider: { [name]: '[redacted]' } });
    expect(redact({ [name]: null })).toEqual({ [name]: null });
  });

  it.each([
    'sk-hf-abcdefgh',
    'a note with sk-ant-api03-abcdef in it',
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln',
    '-----BEGIN PRIVATE KEY-----',
    'AKIAIOSFODNN7EXAMPLE',
    'postgres://user:hunter2@db/holdfast',
  ])('drops a secret wherever it stands: %s', (secret) => {
    expect(redact({ metadata: { notes: [secret] } })).toEqual({ metadata: { notes: ['[redacted]'] } });
  });
});
