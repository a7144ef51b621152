import OpenAI from 'openai';
import type { Batch, BatchError } from 'openai/resources/batches';
import type { ChatCompletion } from 'openai/resources/chat/completions';
import type { ErrorInfo } from '../domain/errors.ts';
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
import { toAnswer } from './openai-answer.ts';
import { type OpenAIConnection, requestOptions } from './openai-client.ts';
import { toOpenAIRequest } from './openai-request.ts';
import { resultLines } from './result-lines.ts';

/** https://platform.openai.com/docs/guides/batch */
const MAX_LINES = 50_000;

const ENDPOINT = '/v1/chat/completions';

/** In a batch's metadata. */
const KEY_FIELD = 'holdfast_key';

/** How far back `find` looks, in seconds; no submit is repeated for longer. OpenAI lists the latest batches first. */
const FIND_SECONDS = 7 * 24 * 60 * 60;

/** When OpenAI deletes what was uploaded, in seconds: a batch ends within a day, and a lost upload has nobody to do it. */
const INPUT_SECONDS = 2 * 24 * 60 * 60;

/** OpenAI's Batch API. */
export function createOpenAIBatches({ provider, client, official, failure }: OpenAIConnection): ProviderBatches {
  const failed = (error: unknown, { credential }: BatchCall) => batchFailure(failure(error, credential));
  const toInput = ({ id, request, ...target }: BatchLine): string =>
    `${JSON.stringify({ custom_id: id, method: 'POST', url: ENDPOINT, body: toOpenAIRequest(request, target, official) })}\n`;

  async function upload(lines: readonly BatchLine[], call: BatchCall): Promise<string> {
    const file = await OpenAI.toFile(new Blob(lines.map(toInput)), 'batch.jsonl', { type: 'application/jsonl' });
    const expires_after = { anchor: 'created_at' as const, seconds: INPUT_SECONDS };
    return (await client.files.create({ file, purpose: 'batch', expires_after }, requestOptions(call))).id;
  }

  return {
    maxLines: MAX_LINES,
    maxBytes: MAX_BATCH_BYTES,
    bytesOf: (line) => Buffer.byteLength(toInput(line)),
    async submit(lines, { key, ...call }) {
      checkLines(lines, MAX_LINES);
      try {
        const input_file_id = await upload(lines, call);
        const metadata = { [KEY_FIELD]: key };
        const { id } = await client.batches.create(
          { input_file_id, endpoint: ENDPOINT, completion_window: '24h', metadata },
          requestOptions(call),
        );
        return { id };
      } catch (error) {
        throw notYetVisible(failed(error, call));
      }
    },
    async find(key, call) {
      const oldest = Date.now() / 1000 - FIND_SECONDS;
      try {
        for await (const batch of client.batches.list({ limit: 100 }, requestOptions(call))) {
          if (batch.metadata?.[KEY_FIELD] === key) return { id: batch.id };
          if (batch.created_at < oldest) break;
        }
        return undefined;
      } catch (error) {
        throw failed(error, call);
      }
    },
    async status(id, call) {
      try {
        const batch = await client.batches.retrieve(id, requestOptions(call));
        return toStatus(batch, (error) => failure(error, call.credential));
      } catch (error) {
        throw failed(error, call);
      }
    },
    async *results(id, call) {
      try {
        const { output_file_id, error_file_id } = await client.batches.retrieve(id, requestOptions(call));
        for (const file of [output_file_id, error_file_id]) {
          if (!file) continue;
          const content = await client.files.content(file, requestOptions(call));
          for await (const line of resultLines<OutputLine>(content, provider)) {
            yield toLineEnd(line, provider, (error) => failure(error, call.credential));
          }
        }
      } catch (error) {
        throw failed(error, call);
      }
    },
    async cancel(id, call) {
      try {
        await client.batches.cancel(id, requestOptions(call)).catch(async (refusal: unknown) => {
          // What has ended or is being cancelled refuses, and a cancel that is repeated must not fail by that.
          const { status } = await client.batches.retrieve(id, requestOptions(call));
          if (status === 'validating' || status === 'in_progress') throw refusal;
        });
      } catch (error) {
        throw failed(error, call);
      }
    },
  };
}

/** OpenAI may not find a file that it took a moment ago: https://github.com/bespokelabsai/curator/issues/116 */
const notYetVisible = (error: ProviderError): ProviderError =>
  error.providerStatus === 400 && /cannot find file/i.test(error.message)
    ? new ProviderError('provider_server_error', error.message, { providerStatus: error.providerStatus })
    : error;

const STATES: Readonly<Record<string, BatchState>> = {
  completed: 'ended',
  failed: 'failed',
  expired: 'expired',
  cancelled: 'cancelled',
};

type Failure = (error: unknown) => ProviderError;

function toStatus({ status, request_counts: counts, errors }: Batch, failure: Failure): BatchStatus {
  const state = STATES[status] ?? 'running';
  return {
    state,
    total: counts?.total ?? 0,
    done: (counts?.completed ?? 0) + (counts?.failed ?? 0),
    ...(state === 'failed' && { error: whyFailed(errors?.data?.[0], failure) }),
  };
}

/** As much waits already as the account may have waiting; there is room again once other batches have ended. */
const QUEUE_FULL = 'token_limit_exceeded';

/** The first of the errors that validation found. They have no status: it took place after the answer to `submit`. */
function whyFailed({ line, code, message, param }: BatchError = {}, failure: Failure): ErrorInfo {
  const where = line ? `line ${line}: ` : '';
  const error = { code, message: `${where}${message || 'no reason was given'}` };
  const { providerStatus: _, ...info } = failure({ status: code === QUEUE_FULL ? 429 : 400, error, param }).info;
  return info;
}

/** A line of the output file or of the error file. */
interface OutputLine {
  readonly custom_id: string;
  /** null for a request that did not run. */
  readonly response: { readonly status_code: number; readonly body: unknown } | null;
  readonly error: { readonly code?: string; readonly message?: string } | null;
}

function toLineEnd({ custom_id: id, response, error }: OutputLine, provider: string, failure: Failure): BatchLineEnd {
  if (error?.code === 'batch_expired') return { id, error: expiredLine(provider) };
  if (error?.code === 'batch_cancelled') return { id, error: cancelledLine(provider) };
  if (!response) return { id, error: failure({ error }) };
  try {
    if (response.status_code === 200) return { id, answer: toAnswer(response.body as ChatCompletion) };
    // What the SDK makes of the same answer to a single call.
    throw OpenAI.APIError.generate(response.status_code, response.body as object, undefined, new Headers());
  } catch (thrown) {
    return { id, error: failure(thrown) };
  }
}
