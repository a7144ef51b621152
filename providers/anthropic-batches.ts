import type { MessageBatch, MessageBatchIndividualResponse } from '@anthropic-ai/sdk/resources/messages/batches';
import { toAnswer } from './anthropic-answer.ts';
import { type AnthropicConnection, requestOptions } from './anthropic-client.ts';
import { toAnthropicRequest, versionHeaders } from './anthropic-request.ts';
import {
  type BatchCall,
  type BatchLine,
  type BatchLineEnd,
  type BatchState,
  type BatchStatus,
  batchFailure,
  cancelledLine,
  checkLines,
  expiredLine,
  MAX_BATCH_BYTES,
  type ProviderBatches,
} from './batches.ts';
import { ProviderError } from './errors.ts';
import { resultLines } from './result-lines.ts';

/** https://platform.claude.com/docs/en/build-with-claude/batch-processing */
const MAX_LINES = 100_000;

/**
 * Anthropic's Message Batches API. It has neither metadata nor idempotency keys, and does not tell the lines of a batch
 * before its end, so nothing can find the batch of a submit whose answer was lost.
 */
export function createAnthropicBatches({ provider, client, failure }: AnthropicConnection): ProviderBatches {
  const failed = (error: unknown, { credential }: BatchCall) => batchFailure(failure(error, credential));

  return {
    maxLines: MAX_LINES,
    maxBytes: MAX_BATCH_BYTES,
    bytesOf: (line) => Buffer.byteLength(JSON.stringify(toInput(line))) + 1,
    async submit(lines, call) {
      checkLines(lines, MAX_LINES);
      const requests = lines.map(toInput);
      try {
        const { id } = await client.messages.batches.create({ requests }, requestOptions(call, versionOf(lines)));
        return { id };
      } catch (error) {
        throw failed(error, call);
      }
    },
    async status(id, call) {
      try {
        return toStatus(await client.messages.batches.retrieve(id, undefined, requestOptions(call)));
      } catch (error) {
        throw failed(error, call);
      }
    },
    async *results(id, call) {
      try {
        // Not the SDK's function for it: that follows the address in the batch, past the proxy at `base_url`, with its key.
        const path = `/v1/messages/batches/${encodeURIComponent(id)}/results`;
        const content = await client.get(path, requestOptions(call)).asResponse();
        for await (const line of resultLines<MessageBatchIndividualResponse>(content, provider)) {
          yield toLineEnd(line, provider, (error) => failure(error, call.credential));
        }
      } catch (error) {
        throw failed(error, call);
      }
    },
    async cancel(id, call) {
      try {
        await client.messages.batches.cancel(id, undefined, requestOptions(call)).catch(async (refusal: unknown) => {
          // What has ended refuses, and a cancel that is repeated must not fail by that.
          const batch = await client.messages.batches.retrieve(id, undefined, requestOptions(call));
          if (batch.processing_status === 'in_progress') throw refusal;
        });
      } catch (error) {
        throw failed(error, call);
      }
    },
  };
}

const toInput = ({ id, request, ...target }: BatchLine) => ({
  custom_id: id,
  params: toAnthropicRequest(request, target),
});

/** All lines go by one version. The older one refuses nothing that the newer one takes. */
function versionOf(lines: readonly BatchLine[]): Record<string, string> {
  const older = lines.find(({ request }) => Object.keys(versionHeaders(request)).length > 0);
  return older ? versionHeaders(older.request) : {};
}

function toStatus(batch: MessageBatch): BatchStatus {
  const { processing, ...ends } = batch.request_counts;
  const done = Object.values(ends).reduce((sum, count) => sum + count, 0);
  return { state: toState(batch), total: done + processing, done };
}

function toState({ processing_status, cancel_initiated_at, request_counts }: MessageBatch): BatchState {
  if (processing_status !== 'ended') return 'running';
  if (cancel_initiated_at) return 'cancelled';
  return request_counts.expired > 0 ? 'expired' : 'ended';
}

function toLineEnd(
  { custom_id: id, result }: MessageBatchIndividualResponse,
  provider: string,
  failure: (error: unknown) => ProviderError,
): BatchLineEnd {
  switch (result.type) {
    case 'succeeded':
      try {
        return { id, answer: toAnswer(result.message) };
      } catch (error) {
        return { id, error: failure(error) };
      }
    case 'errored':
      return { id, error: notBilled(failure(result)) };
    case 'expired':
      return { id, error: expiredLine(provider) };
    case 'canceled':
      return { id, error: cancelledLine(provider) };
  }
}

/** These errors come without a status, but Anthropic says of all of them that they are not billed. */
const notBilled = ({ code, message, info }: ProviderError): ProviderError => new ProviderError(code, message, info);
