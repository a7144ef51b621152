import type {
  ChatCompletionChunk,
  ChatCompletionCreateParamsNonStreaming,
  ChatCompletionCreateParamsStreaming,
} from 'openai/resources/chat/completions';
import type { ChoiceDelta, StreamEvent } from '../domain/chat.ts';
import type { ProviderAdapter } from './adapter.ts';
import type { AdapterIdentity } from './identity.ts';
import { openAILimits, reportingLimits } from './limit-headers.ts';
import { extraOf, toAnswer, toFinishReason, toUsage } from './openai-answer.ts';
import { createOpenAIBatches } from './openai-batches.ts';
import { connectOpenAI, type OpenAIOptions, requestOptions } from './openai-client.ts';
import { toOpenAIRequest } from './openai-request.ts';

export interface OpenAIAdapterOptions extends OpenAIOptions {
  /** Whether the server has OpenAI's batch API. @default only OpenAI itself */
  readonly batches: boolean | undefined;
}

/** OpenAI and every server that speaks its chat completions API. */
export function createOpenAIAdapter(identity: AdapterIdentity, options: OpenAIAdapterOptions): ProviderAdapter {
  const connection = connectOpenAI(identity.name, options);
  const { client, official, failure } = connection;

  return {
    ...identity,
    ...((options.batches ?? official) && { batches: createOpenAIBatches(connection) }),
    async complete(request, call) {
      try {
        const params = toOpenAIRequest(request, call, official) as unknown as ChatCompletionCreateParamsNonStreaming;
        const created = client.chat.completions.create(params, requestOptions(call));
        return toAnswer(await reportingLimits(created, call, openAILimits));
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async *stream(request, call) {
      try {
        const params = {
          ...toOpenAIRequest(request, call, official),
          stream: true,
          stream_options: { include_usage: true },
        } as unknown as ChatCompletionCreateParamsStreaming;
        const created = client.chat.completions.create(params, requestOptions(call));
        const chunks = await reportingLimits(created, call, openAILimits);
        let started = false;
        for await (const chunk of chunks) {
          if (!started) yield { type: 'start', model: chunk.model, extra: extraOf(chunk) };
          started = true;
          yield* toEvents(chunk);
        }
      } catch (error) {
        throw failure(error, call.credential);
      }
    },
    async probe(signal, credential) {
      try {
        await client.models.list(requestOptions({ signal, credential }));
      } catch (error) {
        throw failure(error, credential);
      }
    },
  };
}

function* toEvents(chunk: ChatCompletionChunk): Generator<StreamEvent> {
  const choices = chunk.choices.flatMap(({ index, delta, logprobs }): ChoiceDelta[] => {
    const { content, refusal, tool_calls, reasoning_content, reasoning } = delta as Delta;
    const thought = reasoning_content ?? reasoning;
    const translated = {
      ...(content && { content }),
      ...(refusal && { refusal }),
      ...(thought && { reasoning_content: thought }),
      ...(tool_calls && { tool_calls }),
    };
    if (Object.keys(translated).length === 0 && !logprobs) return [];
    return [{ index, delta: translated, ...(logprobs && { logprobs }) } as ChoiceDelta];
  });
  if (choices.length > 0) yield { type: 'delta', choices };
  for (const { index, finish_reason } of chunk.choices) {
    if (finish_reason) {
      yield { type: 'finish', index, reason: toFinishReason(finish_reason), native: finish_reason };
    }
  }
  if (chunk.usage) yield { type: 'usage', usage: toUsage(chunk.usage), final: true };
}

/** DeepSeek and vLLM stream `reasoning_content`, OpenRouter and Ollama `reasoning`. */
type Delta = ChatCompletionChunk.Choice.Delta & {
  readonly reasoning_content?: string | null;
  readonly reasoning?: string | null;
};
