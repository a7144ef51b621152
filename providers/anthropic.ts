import type { MessageCreateParamsBase, RawMessageStreamEvent } from '@anthropic-ai/sdk/resources/messages';
import type { StreamEvent } from '../domain/chat.ts';
import type { ProviderAdapter } from './adapter.ts';
import { type PartialUsage, refusalText, toAnswer, toFinishReason, toUsage } from './anthropic-answer.ts';
import { createAnthropicBatches } from './anthropic-batches.ts';
import { type AnthropicOptions, connectAnthropic, requestOptions } from './anthropic-client.ts';
import { toAnthropicRequest, versionHeaders } from './anthropic-request.ts';
import type { AdapterIdentity } from './identity.ts';
import { anthropicLimits, reportingLimits } from './limit-headers.ts';

export interface AnthropicAdapterOptions extends AnthropicOptions {
  /** Whether the server has the Message Batches API. @default only Anthropic itself */
  readonly batches: boolean | undefined;
}

/** Anthropic's Messages API. */
export function createAnthropicAdapter(identity: AdapterIdentity, options: AnthropicAdapterOptions): ProviderAdapter {
  const connection = connectAnthropic(identity.name, options);
  const { client, official, failure } = connection;

  return {
    ...identity,
    ...((options.batches ?? official) && { batches: createAnthropicBatches(connection) }),
    async complete(request, call) {
      const params = toAnthropicRequest(request, call);
      try {
        const created = client.messages.create(
          { ...params, stream: false },
          requestOptions(call, versionHeaders(request)),
        );
        return toAnswer(await reportingLimits(created, call, anthropicLimits));
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async *stream(request, call) {
      const params: MessageCreateParamsBase = toAnthropicRequest(request, call);
      try {
        const created = client.messages.create(
          { ...params, stream: true },
          requestOptions(call, versionHeaders(request)),
        );
        const events = await reportingLimits(created, call, anthropicLimits);
        const translate = createStreamTranslator();
        for await (const event of events) yield* translate(event);
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async probe(signal, credential) {
      try {
        await client.models.list({ limit: 1 }, requestOptions({ signal, credential }));
      } catch (error) {
        throw failure(error, credential);
      }
    },
  };
}

/** Anthropic numbers content blocks, OpenAI numbers tool calls; the translator keeps count. */
function createStreamTranslator(): (event: RawMessageStreamEvent) => Generator<StreamEvent> {
  const toolIndexes = new Map<number, number>();
  const withArguments = new Set<number>();
  let usage: PartialUsage = {};

  return function* translate(event) {
    switch (event.type) {
      case 'message_start':
        usage = event.message.usage;
        yield { type: 'start', model: event.message.model };
        yield { type: 'usage', usage: toUsage(usage), final: false };
        break;
      case 'content_block_start': {
        if (event.content_block.type !== 'tool_use') break;
        const index = toolIndexes.size;
        toolIndexes.set(event.index, index);
        const { id, name } = event.content_block;
        yield toolDelta({ index, id, type: 'function', function: { name, arguments: '' } });
        break;
      }
      case 'content_block_delta': {
        const { delta } = event;
        if (delta.type === 'text_delta') yield textDelta({ content: delta.text });
        else if (delta.type === 'thinking_delta') yield textDelta({ reasoning_content: delta.thinking });
        else if (delta.type === 'input_json_delta' && delta.partial_json) {
          withArguments.add(event.index);
          const index = toolIndexes.get(event.index);
          if (index !== undefined) yield toolDelta({ index, function: { arguments: delta.partial_json } });
        }
        break;
      }
      case 'content_block_stop': {
        const index = toolIndexes.get(event.index);
        // A tool without parameters streams no JSON at all; OpenAI's clients parse the arguments.
        if (index !== undefined && !withArguments.has(event.index)) {
          yield toolDelta({ index, function: { arguments: '{}' } });
        }
        break;
      }
      case 'message_delta': {
        usage = { ...usage, ...withoutNulls(event.usage) };
        yield { type: 'usage', usage: toUsage(usage), final: true };
        const native = event.delta.stop_reason;
        if (!native) break;
        if (native === 'refusal') yield textDelta({ refusal: refusalText(event.delta.stop_details) });
        yield { type: 'finish', index: 0, reason: toFinishReason(native), native };
        break;
      }
      case 'message_stop':
        break;
    }
  };
}

type Delta = Extract<StreamEvent, { type: 'delta' }>['choices'][number]['delta'];

const textDelta = (delta: Delta): StreamEvent => ({ type: 'delta', choices: [{ index: 0, delta }] });
const toolDelta = (call: NonNullable<Delta['tool_calls']>[number]): StreamEvent => textDelta({ tool_calls: [call] });

const withoutNulls = <T extends object>(value: T): Partial<T> =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null)) as Partial<T>;
