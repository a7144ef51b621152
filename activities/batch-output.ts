import { Context } from '@temporalio/activity';
import { lineRequestId } from '../domain/batch.ts';
import { BATCH_ENDPOINTS, type BatchEndpointName } from '../domain/batch-endpoints.ts';
import { readLine } from '../domain/batch-line.ts';
import type { ModelResult } from '../domain/chat.ts';
import { toEnvelope } from '../domain/error-envelope.ts';
import { ERRORS, type ErrorInfo, HoldfastError } from '../domain/errors.ts';
import { defaultKeepSeconds } from '../domain/files.ts';
import { toMetadata } from '../domain/stream-item.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { BatchLines, StoredLine } from '../storage/postgres/batch-lines.ts';
import type { Batch, Batches } from '../storage/postgres/batches.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import type { Files } from '../storage/postgres/files.ts';
import type { Requests } from '../storage/postgres/requests.ts';
import { textsOf } from './line-texts.ts';

export interface BatchOutputDeps {
  readonly batches: Batches;
  readonly batchLines: BatchLines;
  readonly bodies: Bodies;
  readonly files: Files;
  readonly requests: Requests;
  readonly providers: ProviderRegistry;
  readonly maxLineBytes: number;
}

/** Lines whose answers are in memory at once. */
const PAGE = 200;
/** Characters after which a piece of a file is written. */
const PIECE_CHARACTERS = 1_000_000;

type FileColumn = 'output_file_id' | 'error_file_id';

/** A line of an output file or of an error file. */
interface FileLine {
  readonly n: number;
  readonly column: FileColumn;
  readonly text: string;
}

/** Writes what became of batches. */
export function createBatchOutputActivities(deps: BatchOutputDeps) {
  const { batches, batchLines, bodies, files, requests, providers } = deps;

  async function render(batch: Batch, lines: readonly StoredLine[]): Promise<readonly FileLine[]> {
    const answered = lines.filter(({ state }) => state === 'completed');
    const answers = await requests.answers(answered.map(({ requestId }) => requestId));
    const results = await bodies.getMany<ModelResult>([...answers.values()].map(({ responseRef }) => responseRef));
    const texts = batch.endpoint === '/v1/responses' ? await textsOf(deps, batch.inputFileId, answered) : NO_TEXTS;
    const created = Math.floor(batch.createdAt.getTime() / 1000);

    const bodyOf = ({ n, requestId }: StoredLine): object | undefined => {
      const answer = answers.get(requestId);
      const result = answer && results.get(answer.responseRef);
      if (!answer || !result) return undefined;
      const metadata = toMetadata({ ...answer, region: providers.get(answer.provider)?.region });
      const line = readLine(texts.get(n) ?? '', n, batch.endpoint);
      const asked = 'problem' in line ? { input: '' } : line.body;
      const endpoint = BATCH_ENDPOINTS[batch.endpoint as BatchEndpointName];
      return endpoint.render(asked, { id: requestId, created, result, metadata });
    };

    return lines.map((line) => {
      const { n, customId } = line;
      const body = line.state === 'completed' ? bodyOf(line) : undefined;
      const id = lineRequestId(batch.id, n);
      const said = body ? answeredWith(line, body) : failedWith(line);
      const text = JSON.stringify({ id, custom_id: customId, ...said });
      return { n, column: body ? 'output_file_id' : 'error_file_id', text };
    });
  }

  /** Named by its first line, a piece that is written once more is the same one. */
  async function append(fileId: string, lines: readonly FileLine[]): Promise<void> {
    let piece: FileLine[] = [];
    let size = 0;
    for (const line of lines) {
      piece.push(line);
      size += line.text.length;
      if (size < PIECE_CHARACTERS && line !== lines.at(-1)) continue;
      await files.append(
        fileId,
        piece[0]?.n ?? 0,
        piece.map(({ text }) => text),
      );
      piece = [];
      size = 0;
    }
  }

  async function finish(batch: Batch, column: FileColumn, fileId: string | null): Promise<void> {
    if (fileId === null) return;
    const keepSeconds = batch.outputKeepSeconds ?? defaultKeepSeconds('batch_output');
    const filename = `${batch.id}_${column === 'output_file_id' ? 'output' : 'error'}.jsonl`;
    await files.finish(fileId, { filename, purpose: 'batch_output', keepSeconds });
  }

  return {
    /** Writes the files of a batch whose lines have all ended. */
    async writeBatchFiles(batchId: string): Promise<void> {
      const context = Context.current();
      const batch = await batches.find(batchId, undefined);
      if (!batch) throw new HoldfastError('gateway_internal', `There is no batch '${batchId}'.`);
      await batches.mark(batchId, 'finalizing_at');
      let after = (context.info.heartbeatDetails as number | undefined) ?? 0;
      for (;;) {
        const lines = await batchLines.read(batchId, { after, limit: PAGE });
        const rendered = await render(batch, lines);
        for (const column of ['output_file_id', 'error_file_id'] as const) {
          const own = rendered.filter((line) => line.column === column);
          if (own.length === 0) continue;
          const fileId = await batches.nameFile(batchId, column);
          await files.open(fileId, batch);
          await append(fileId, own);
        }
        after = lines.at(-1)?.n ?? after;
        context.heartbeat(after);
        if (lines.length < PAGE) break;
      }
      await batches.sumUsage(batchId);
      const written = await batches.find(batchId, undefined);
      await finish(batch, 'output_file_id', written?.outputFileId ?? null);
      await finish(batch, 'error_file_id', written?.errorFileId ?? null);
    },
  };
}

const NO_TEXTS: ReadonlyMap<number, string> = new Map();

const answeredWith = ({ requestId }: StoredLine, body: object) => ({
  response: { status_code: 200, request_id: requestId, body },
  error: null,
});

/** As OpenAI tells it: what the endpoint would have answered, or why it was not asked. */
function failedWith({ state, problem, error, requestId }: StoredLine) {
  if (problem) return unasked(problem);
  if (state === 'expired') return unasked(EXPIRED);
  if (state === 'cancelled') return unasked(CANCELLED);
  const info = error ?? ANSWER_MISSING;
  return {
    response: { status_code: ERRORS[info.code].status, request_id: requestId, body: toEnvelope(info) },
    error: null,
  };
}

const unasked = (error: { readonly code: string; readonly message: string }) => ({ response: null, error });

const EXPIRED = {
  code: 'batch_expired',
  message: 'This request could not be executed before the completion window expired.',
};
const CANCELLED = { code: 'batch_cancelled', message: 'The batch was cancelled before this request was answered.' };
const ANSWER_MISSING: ErrorInfo = { code: 'gateway_internal', message: 'The stored answer is missing.' };
