import Anthropic from '@anthropic-ai/sdk';
import type { ProviderCall } from './adapter.ts';
import { type Credential, secretsOf } from './credentials.ts';
import { type ProviderError, toProviderError } from './errors.ts';

export interface AnthropicOptions {
  readonly apiKey: string | undefined;
  readonly baseUrl: string | undefined;
}

/** A server that speaks Anthropic's API, and what every call to it needs. */
export interface AnthropicConnection {
  readonly provider: string;
  readonly client: Anthropic;
  /** Anthropic itself, not a proxy or a compatible server. */
  readonly official: boolean;
  failure(error: unknown, credential: Credential | undefined): ProviderError;
}

export function connectAnthropic(provider: string, options: AnthropicOptions): AnthropicConnection {
  const client = new Anthropic({
    apiKey: options.apiKey || 'none',
    authToken: null,
    // The SDK sends a bearer token; proxies that predate it read this header, and Anthropic takes either.
    defaultHeaders: { 'x-api-key': options.apiKey || 'none' },
    baseURL: options.baseUrl ?? 'https://api.anthropic.com',
    maxRetries: 0,
    // The call's signal is the only clock. Giving one also stops the SDK from refusing long non-streaming calls.
    timeout: 24 * 60 * 60 * 1000,
  });
  return {
    provider,
    client,
    official: new URL(client.baseURL).hostname === 'api.anthropic.com',
    failure: (error, credential) => toProviderError(error, provider, [options.apiKey ?? '', ...secretsOf(credential)]),
  };
}

/** Headers rather than a client for each key: all of them share its connections. */
export const requestOptions = (
  { signal, credential }: Pick<ProviderCall, 'signal' | 'credential'>,
  headers: Readonly<Record<string, string>> = {},
) => ({
  signal,
  headers: {
    ...headers,
    ...(credential &&
      'apiKey' in credential && {
        authorization: `Bearer ${credential.apiKey}`,
        'x-api-key': credential.apiKey,
      }),
  },
});
