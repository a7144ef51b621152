import { HoldfastError } from '../../domain/errors.ts';
import { fillTemplate, referencesOf } from '../../domain/pipeline-body.ts';
import type { OpenPipeline, PipelineContext, PipelineDeps } from './context.ts';

const STEPS = 'steps.';
/** Characters that a step is given at most; more is not worth any model's time, and would be kept for each step. */
const MAX_CONTENT = 4_000_000;

const tooLong = () =>
  new HoldfastError('caller_invalid_request', `What a step is given is longer than ${MAX_CONTENT} characters.`);

/** Throws for what is too long to be passed on. */
export function requirePassable(parts: readonly string[]): void {
  if (parts.reduce((sum, { length }) => sum + length, 0) > MAX_CONTENT) throw tooLong();
}

function lengthOf(template: string, values: ReadonlyMap<string, string>): number {
  let length = template.length;
  fillTemplate(template, (reference) => {
    length += values.get(reference)?.length ?? 0;
    return '';
  });
  return length;
}

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
    const length = lengthOf(template, values);
    if (length > MAX_CONTENT) throw tooLong();
    return fillTemplate(template, (reference) => values.get(reference) ?? '');
  };
