import { fillTemplate, referencesOf } from '../../domain/pipeline-body.ts';
import type { OpenPipeline, PipelineContext, PipelineDeps } from './context.ts';

const STEPS = 'steps.';

/** Puts what came before into the texts of steps. */
export const createFill =
  ({ runSteps }: Pick<PipelineDeps, 'runSteps'>, context: PipelineContext) =>
  async ({ run, input }: OpenPipeline, template: string, previousRef: string): Promise<string> => {
    const references = referencesOf(template);
    const outputs = references.some((one) => one.startsWith(STEPS))
      ? await runSteps.outputs(run.id)
      : new Map<string, string>();
    const meaningOf = async (reference: string): Promise<string> => {
      if (reference === 'input') return input;
      if (reference === 'previous') return context.content(previousRef);
      const ref = outputs.get(reference.slice(STEPS.length));
      // A branch that did not count has no output.
      return ref === undefined ? '' : context.content(ref);
    };
    const values = new Map(await Promise.all(references.map(async (one) => [one, await meaningOf(one)] as const)));
    return fillTemplate(template, (reference) => values.get(reference) ?? '');
  };
