import type { SingleStep } from '../../domain/pipeline.ts';
import { runAgent } from '../pipeline/agent.ts';
import type { PipelineRun } from '../pipeline/pipeline-run.ts';

/** One agent. */
export const single = (run: PipelineRun, { name, agent }: SingleStep, input: string): Promise<string> =>
  runAgent(run, { step: name, choice: agent, input: { ref: input } });
