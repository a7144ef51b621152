import type { SequentialStep } from '../../domain/pipeline.ts';
import type { PipelineRun } from '../pipeline/pipeline-run.ts';
import { finish, recorded } from '../pipeline/recorded.ts';

/** One step after the other, each with the output of the one before. */
export const sequential = (
  run: PipelineRun,
  { name, pattern, steps }: SequentialStep,
  input: string,
): Promise<string> =>
  recorded(run, { step: name, pattern, input: { ref: input } }, async ({ inputRef }) => {
    let outputRef = inputRef;
    for (const step of steps) outputRef = await run.perform(step, outputRef);
    await finish(run, name, { outputRef });
    return outputRef;
  });
