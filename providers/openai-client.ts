import OpenAI from 'openai';
import type { ProviderCall } from './adapter.ts';
import { type Credential, secretsOf } from './credentials.ts';
import { type ProviderError, toProviderError } from './errors.ts';

export interface OpenAIOptions {
  readonly apiKey: string | undefined;
  readonly baseUrl: string | undefined;
}

/** A server that speaks OpenAI's API, and what every call to it needs. */
export interface OpenAIConnection {
  readonly provider: string;
  readonly client: OpenAI;
  /** OpenAI itself, not a compatible server. */
  readonly official: boolean;
  failure(error: unknown, credential: Credential | undefined): ProviderError;
}

export function connectOpenAI(provider: string, options: OpenAIOptions): OpenAIConnection {
  const client = new OpenAI({
    // Servers without authentication still need a value here, or the SDK looks for OPENAI_API_KEY.
    apiKey: options.apiKey || 'none',
    baseURL: options.baseUrl ?? 'https://api.openai.com/v1',
    organization: null,
    project: null,
    maxRetries: 0,
    // The call's signal is the only clock; this one must never fire first.
    timeout: 24 * 60 * 60 * 1000,
  });
  return {
    provider,
    client,
    official: new URL(client.baseURL).hostname.endsWith('openai.com'),
    failure: (error, credential) => toProviderError(error, provider, [options.apiKey ?? '', ...secretsOf(credential)]),
  };
}

/** A header rather than a client for each key: all of them share its connections. */
export const requestOptions = ({ signal, credential }: Pick<ProviderCall, 'signal' | 'credential'>) => ({
  signal,
  ...(credential && 'apiKey' in credential && { headers: { authorization: `Bearer ${credential.apiKey}` } }),
});
