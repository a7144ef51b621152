import type { SupervisorStep } from '../../domain/pipeline.ts';
import { runAgent } from '../pipeline/agent.ts';
import type { PipelineRun } from '../pipeline/pipeline-run.ts';

/** An agent whose tools are other agents: it hands out work, a bounded number of times, and then answers. */
export const supervisor = (
  run: PipelineRun,
  { name, coordinator, workers, maxRounds }: SupervisorStep,
  input: string,
): Promise<string> => runAgent(run, { step: name, choice: coordinator, input: { ref: input } }, { workers, maxRounds });
