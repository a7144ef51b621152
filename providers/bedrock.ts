import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import {
  BedrockRuntimeClient,
  type ContentBlock,
  ConverseCommand,
  type ConverseCommandOutput,
  ConverseStreamCommand,
  type ConverseStreamOutput,
  type TokenUsage,
} from '@aws-sdk/client-bedrock-runtime';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { LRUCache } from 'lru-cache';
import type { ChoiceDelta, FinishReason, ModelAnswer, StreamEvent, ToolCall } from '../domain/chat.ts';
import type { Usage } from '../domain/money.ts';
import type { ProviderAdapter, ProviderCall } from './adapter.ts';
import { toConverseRequest } from './bedrock-request.ts';
import { type AwsKey, type Credential, secretsOf } from './credentials.ts';
import { ProviderError, toProviderError } from './errors.ts';
import type { AdapterIdentity } from './identity.ts';

export interface BedrockOptions {
  readonly region: string;
  /** Another endpoint than AWS's own. */
  readonly endpoint: string | undefined;
}

/** The SDK's default of 50 would queue calls inside it. */
const MAX_SOCKETS = 2_000;
/** Clients kept, one for each stored credential; to make one takes milliseconds. */
const MAX_CLIENTS = 100;

/** AWS Bedrock by Converse and ConverseStream. Credentials come from AWS's default chain unless a call brings its own. */
export function createBedrockAdapter(identity: AdapterIdentity, options: BedrockOptions): ProviderAdapter {
  const agent = { keepAlive: true, maxSockets: MAX_SOCKETS };
  // HTTP/1.1 carries ConverseStream as well as HTTP/2 and passes every proxy and emulator. All clients share it.
  const requestHandler = new NodeHttpHandler({ httpAgent: new HttpAgent(agent), httpsAgent: new HttpsAgent(agent) });
  const createClient = (credential?: Credential) =>
    new BedrockRuntimeClient({
      region: options.region,
      ...(options.endpoint && { endpoint: options.endpoint }),
      maxAttempts: 1,
      requestHandler,
      ...(credential && 'accessKeyId' in credential && { credentials: toIdentity(credential) }),
    });
  const configured = createClient();
  const clients = new LRUCache<string, BedrockRuntimeClient>({ max: MAX_CLIENTS });
  const clientOf = (credential: Credential | undefined): BedrockRuntimeClient => {
    if (!credential) return configured;
    const key = secretsOf(credential).join(':');
    const client = clients.get(key) ?? createClient(credential);
    clients.set(key, client);
    return client;
  };
  const failure = (error: unknown, credential: Credential | undefined) =>
    toProviderError(error, identity.name, secretsOf(credential));

  return {
    ...identity,
    async complete(request, call) {
      const input = toConverseRequest(request, call);
      try {
        const output = await clientOf(call.credential).send(new ConverseCommand(input), { abortSignal: call.signal });
        return toAnswer(output, call.model);
      } catch (error) {
        throw reportThrottling(failure(error, call.credential), call);
      }
    },
    async *stream(request, call) {
      const input = toConverseRequest(request, call);
      try {
        const { stream } = await clientOf(call.credential).send(new ConverseStreamCommand(input), {
          abortSignal: call.signal,
        });
        yield { type: 'start', model: call.model };
        const translate = createStreamTranslator();
        for await (const event of stream ?? []) yield* translate(event);
      } catch (error) {
        throw reportThrottling(failure(error, call.credential), call);
      }
    },
    async probe(signal, credential) {
      try {
        const client = clientOf(credential);
        await client.config.credentials();
        // Any HTTP answer proves the endpoint reachable; a call that proves more would cost money.
        const { protocol, hostname, port } = (await client.config.endpoint?.()) ?? {
          protocol: 'https:',
          hostname: `bedrock-runtime.${options.region}.amazonaws.com`,
          port: undefined,
        };
        const response = await fetch(`${protocol}//${hostname}${port ? `:${port}` : ''}/`, { signal });
        await response.body?.cancel();
        if (response.status >= 500) {
          throw new ProviderError('provider_server_error', `${identity.name}: HTTP ${response.status}`);
        }
      } catch (error) {
        throw failure(error, credential);
      }
    },
  };
}

const toIdentity = ({ accessKeyId, secretAccessKey, sessionToken }: AwsKey) => ({
  accessKeyId,
  secretAccessKey,
  ...(sessionToken && { sessionToken }),
});

/** Bedrock names no limits; that it throttles says to leave it alone for a moment. */
const THROTTLED_PAUSE_MS = 1_000;

function reportThrottling(error: ProviderError, call: ProviderCall): ProviderError {
  if (error.code === 'provider_rate_limited') call.onLimits?.({ pauseMs: error.retryAfterMs ?? THROTTLED_PAUSE_MS });
  return error;
}

function toAnswer(output: ConverseCommandOutput, model: string): ModelAnswer {
  let text = '';
  let thinking = '';
  const toolCalls: ToolCall[] = [];
  for (const block of output.output?.message?.content ?? []) {
    text += block.text ?? '';
    thinking += block.reasoningContent?.reasoningText?.text ?? '';
    const call = toToolCall(block);
    if (call) toolCalls.push(call);
  }
  const native = output.stopReason ?? 'end_turn';
  return {
    model,
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: text || null,
          ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
          ...(thinking && { reasoning_content: thinking }),
        },
        finish_reason: toFinishReason(native),
        native_finish_reason: native,
      },
    ],
    usage: output.usage ? toUsage(output.usage) : null,
  };
}

function toToolCall({ toolUse }: ContentBlock): ToolCall | undefined {
  if (!toolUse) return undefined;
  return {
    id: toolUse.toolUseId ?? '',
    type: 'function',
    function: { name: toolUse.name ?? '', arguments: JSON.stringify(toolUse.input ?? {}) },
  };
}

/** Bedrock numbers content blocks, OpenAI numbers tool calls; the translator keeps count. */
function createStreamTranslator(): (event: ConverseStreamOutput) => Generator<StreamEvent> {
  const toolIndexes = new Map<number, number>();
  const withArguments = new Set<number>();

  return function* translate(event) {
    if (event.contentBlockStart?.start?.toolUse) {
      const { toolUseId = '', name = '' } = event.contentBlockStart.start.toolUse;
      const index = toolIndexes.size;
      toolIndexes.set(event.contentBlockStart.contentBlockIndex ?? 0, index);
      yield delta({ tool_calls: [{ index, id: toolUseId, type: 'function', function: { name, arguments: '' } }] });
    } else if (event.contentBlockDelta) {
      const block = event.contentBlockDelta.contentBlockIndex ?? 0;
      const { text, reasoningContent, toolUse } = event.contentBlockDelta.delta ?? {};
      if (text) yield delta({ content: text });
      if (reasoningContent?.text) yield delta({ reasoning_content: reasoningContent.text });
      const index = toolIndexes.get(block);
      if (toolUse?.input && index !== undefined) {
        withArguments.add(block);
        yield delta({ tool_calls: [{ index, function: { arguments: toolUse.input } }] });
      }
    } else if (event.contentBlockStop) {
      const block = event.contentBlockStop.contentBlockIndex ?? 0;
      const index = toolIndexes.get(block);
      // A tool without parameters streams no JSON at all; OpenAI's clients parse the arguments.
      if (index !== undefined && !withArguments.has(block)) {
        yield delta({ tool_calls: [{ index, function: { arguments: '{}' } }] });
      }
    } else if (event.messageStop) {
      const native = event.messageStop.stopReason ?? 'end_turn';
      yield { type: 'finish', index: 0, reason: toFinishReason(native), native };
    } else if (event.metadata?.usage) {
      yield { type: 'usage', usage: toUsage(event.metadata.usage), final: true };
    }
  };
}

const delta = (fields: ChoiceDelta['delta']): StreamEvent => ({
  type: 'delta',
  choices: [{ index: 0, delta: fields }],
});

function toFinishReason(native: string): FinishReason {
  switch (native) {
    case 'max_tokens':
    case 'model_context_window_exceeded':
      return 'length';
    case 'tool_use':
      return 'tool_calls';
    case 'guardrail_intervened':
    case 'content_filtered':
      return 'content_filter';
    default:
      return 'stop';
  }
}

/** Bedrock counts cached tokens beside `inputTokens`, the unified usage inside them. */
function toUsage(usage: TokenUsage): Usage {
  const cached = usage.cacheReadInputTokens ?? 0;
  const written = usage.cacheWriteInputTokens ?? 0;
  return {
    inputTokens: (usage.inputTokens ?? 0) + cached + written,
    cachedInputTokens: cached,
    cacheWriteTokens: written,
    outputTokens: usage.outputTokens ?? 0,
    reasoningTokens: 0,
    estimated: false,
  };
}
