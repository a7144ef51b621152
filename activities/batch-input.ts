import { Context } from '@temporalio/activity';
import { CancelledFailure } from '@temporalio/common';
import { type InputProblem, MAX_BATCH_LINES } from '../domain/batch.ts';
import { readLine } from '../domain/batch-line.ts';
import { faultOf, HoldfastError } from '../domain/errors.ts';
import type { BatchLines, NewLine } from '../storage/postgres/batch-lines.ts';
import type { Batch, Batches } from '../storage/postgres/batches.ts';
import type { Files } from '../storage/postgres/files.ts';

export interface BatchInputDeps {
  readonly batches: Batches;
  readonly batchLines: BatchLines;
  readonly files: Files;
  /** The largest line of a batch's input. */
  readonly maxLineBytes: number;
}

/** Lines written by one statement. */
const CHUNK = 1_000;
/** Problems that a batch tells of. Every line that has one is in its error file. */
const MAX_PROBLEMS = 100;

/** Reads what batches are to do. */
export function createBatchInputActivities({ batches, batchLines, files, maxLineBytes }: BatchInputDeps) {
  async function* linesOf({ endpoint, inputFileId }: Batch): AsyncGenerator<NewLine> {
    const seen = new Map<string, number>();
    const repeated: InputProblem[] = [];
    let count = 0;
    for await (const { n, offset, text } of files.lines(inputFileId, maxLineBytes)) {
      count += 1;
      if (count > MAX_BATCH_LINES) throw new InputRefused([tooManyLines()]);
      const line = readLine(text, n, endpoint);
      const { customId } = line;
      const first = customId === null ? undefined : seen.get(customId);
      if (first !== undefined) repeated.push(duplicate(n, first));
      else if (customId !== null) seen.set(customId, n);
      yield { n, offset, customId, problem: 'problem' in line ? line.problem : null };
    }
    if (repeated.length > 0) throw new InputRefused(repeated);
    if (count === 0) throw new InputRefused([ofFile('empty_file', 'The input file has no lines.')]);
  }

  /** Stores the lines. Returns the problems of those that cannot be called. */
  async function store(batch: Batch): Promise<readonly InputProblem[]> {
    const problems: InputProblem[] = [];
    let chunk: NewLine[] = [];
    for await (const line of linesOf(batch)) {
      if (line.problem) problems.push(line.problem);
      chunk.push(line);
      if (chunk.length < CHUNK) continue;
      await batchLines.add(batch.id, chunk);
      chunk = [];
      beat();
    }
    await batchLines.add(batch.id, chunk);
    return problems;
  }

  /** A batch that retries another goes on with its lines, if it has any. */
  async function inherit({ id, retryOf }: Batch): Promise<boolean> {
    if (retryOf === null) return false;
    await batchLines.takeOver(id, retryOf);
    return (await batchLines.count(id)).total > 0;
  }

  async function forget(batchId: string): Promise<void> {
    await batchLines.clear(batchId);
    await batchLines.count(batchId);
  }

  return {
    /**
     * Reads and stores the lines of a batch. Returns why nothing of it can be done, or undefined if something can: then
     * lines that are no good are failed.
     */
    async readBatchInput(batchId: string): Promise<string | undefined> {
      const batch = await batches.find(batchId, undefined);
      if (!batch) throw new HoldfastError('gateway_internal', `There is no batch '${batchId}'.`);
      if (await inherit(batch)) {
        await batches.mark(batchId, 'in_progress_at');
        return undefined;
      }
      try {
        const problems = await store(batch);
        await batches.setErrors(batchId, problems.slice(0, MAX_PROBLEMS));
        const { total, callable } = await batchLines.count(batchId);
        if (callable === 0) {
          await forget(batchId);
          return `None of the ${total} lines of the input file can be called.`;
        }
        await batches.mark(batchId, 'in_progress_at');
        return undefined;
      } catch (error) {
        const problems = problemsOf(error);
        await batches.setErrors(batchId, problems.slice(0, MAX_PROBLEMS));
        await forget(batchId);
        return problems[0]?.message;
      }
    },
  };
}

/** The input as a whole is no good. */
class InputRefused extends Error {
  override readonly name = 'InputRefused';
  readonly problems: readonly InputProblem[];

  constructor(problems: readonly InputProblem[]) {
    super('The input is refused.');
    this.problems = problems;
  }
}

/** Rethrows what is not the input's fault. */
function problemsOf(error: unknown): readonly InputProblem[] {
  if (error instanceof InputRefused) return error.problems;
  if (!(error instanceof HoldfastError) || faultOf(error.code) !== 'caller') throw error;
  return [ofFile(error.code === 'caller_not_found' ? 'input_file_not_found' : 'invalid_file', error.message)];
}

function beat(): void {
  const context = Context.current();
  context.heartbeat();
  if (context.cancellationSignal.aborted) throw new CancelledFailure('The batch was cancelled.');
}

const ofFile = (code: string, message: string): InputProblem => ({
  code,
  message,
  line: null,
  param: 'input_file_id',
});

const tooManyLines = () =>
  ofFile('too_many_lines', `The input file has more than ${MAX_BATCH_LINES} lines, the most a batch may have.`);

const duplicate = (n: number, first: number): InputProblem => ({
  code: 'duplicate_custom_id',
  message: `Line ${n} has the custom_id of line ${first}; each must be unique in its batch.`,
  line: n,
  param: 'custom_id',
});
