import type { AgentChoice, AgentDefinition } from '../../domain/agent.ts';
import type { Caller } from '../../domain/caller.ts';
import type { ModelResult } from '../../domain/chat.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type {
  AgentInUse,
  BegunStep,
  BranchesToJoin,
  FinishedStep,
  StepEnding,
  StepInput,
  StepToBegin,
} from '../../domain/pipeline-run.ts';
import type { Agent } from '../../storage/postgres/agents.ts';
import type { JournalledStreamLog } from '../../storage/streams/journalled.ts';
import { valueProblem } from '../json-schema.ts';
import { failing, type OpenPipeline, PipelineContext, textOfAnswer } from './context.ts';
import { createFill, requirePassable } from './templates.ts';
import { createPrepareTurn, type TurnDeps } from './turns.ts';

export interface StepDeps extends TurnDeps {
  readonly journal: JournalledStreamLog;
}

/** What steps of pipelines begin with and what they come to. */
export function createStepActivities(deps: StepDeps) {
  const { bodies, runSteps, agents, journal } = deps;
  const context = new PipelineContext(deps);
  const fill = createFill(deps, context);
  const prepareTurn = createPrepareTurn(deps);

  async function inputOf(run: OpenPipeline, step: string, input: StepInput): Promise<string> {
    if ('responseRef' in input) {
      const { function: asked } = await context.toolCall(input.responseRef, input.callId);
      return taskOf(asked.arguments);
    }
    const template = run.texts.get(step)?.input;
    return template === undefined ? context.content(input.ref) : fill(run, template, input.ref);
  }

  async function choose(choice: AgentChoice, caller: Caller): Promise<Agent> {
    if ('agent' in choice) {
      const agent = await agents.find(choice.agent, caller);
      if (agent) return agent;
      throw new HoldfastError('caller_not_found', `There is no agent '${choice.agent}'.`);
    }
    const agent = await agents.choose(choice.capability, caller);
    if (agent) return agent;
    // One may come back: it is asked again until the run's deadline.
    throw new HoldfastError('gateway_unavailable', `No healthy agent has the capability '${choice.capability}'.`);
  }

  const spent = async (runId: string) => ({ spentNanos: await runSteps.spent(runId) });

  return {
    /** Writes down that a step begins, finds out with what and by whom, and prepares the first call of a model. */
    beginStep: ({ runId, step, pattern, parent, choice, input, firstTurn }: StepToBegin): Promise<BegunStep> =>
      failing(async () => {
        const run = await context.open(runId);
        const given = bodies.seal({ content: await inputOf(run, step, input) });
        const begun = await runSteps.find(runId, step);
        const before = begun?.state === 'running' ? begun.agentId : null;
        const agent = choice && (await choose(before === null ? choice : { agent: before }, run.caller));
        if (pattern === 'supervisor' && agent?.definition.kind === 'remote') throw remoteSupervisor(agent.name);
        const inUse = agent && toAgentInUse(agent, await bodies.store(agent.definition));
        await runSteps.begin({
          runId,
          name: step,
          parent: parent ?? null,
          pattern,
          agent: agent ?? null,
          input: given,
        });
        journal.announce(runId, false);
        if (!inUse) return { inputRef: given.ref };
        const ready = { inputRef: given.ref, agent: inUse };
        if (!firstTurn || inUse.kind === 'remote') return ready;
        const { definitionRef, maxTurns } = inUse;
        const last = firstTurn.last || (!firstTurn.workers && maxTurns === 1);
        const turn = { runId, step, turn: 1, inputRef: given.ref, definitionRef, messages: [], ...firstTurn, last };
        return { ...ready, firstTurn: await prepareTurn(turn) };
      }),

    /**
     * Writes down how a step ended. A model's answer becomes the output, unless the agent has a schema that it does not
     * follow: then the step goes on.
     */
    finishStep: ({ runId, step, state, error, ...output }: StepEnding): Promise<FinishedStep> =>
      failing(async () => {
        let { outputRef } = output;
        if (output.responseRef !== undefined) {
          const content = textOfAnswer(await context.body<ModelResult>(output.responseRef));
          const schema = output.definitionRef && (await context.promptAgent(output.definitionRef)).outputSchema;
          const problem = schema ? outputProblem(schema, content) : undefined;
          if (problem !== undefined) {
            return { problemRef: await bodies.store({ content: problem }), ...(await spent(runId)) };
          }
          outputRef = await bodies.store({ content });
        }
        await runSteps.finish({ runId, name: step, state, outputRef: outputRef ?? null, error: error ?? null });
        journal.announce(runId, false);
        return { ...(outputRef !== undefined && { outputRef }), ...(await spent(runId)) };
      }),

    /** One body of the outputs of branches: a JSON object by their names. */
    joinOutputs: ({ outputs }: BranchesToJoin): Promise<string> =>
      failing(async () => {
        const contents = await Promise.all(
          outputs.map(async ({ name, ref }) => [name, await context.content(ref)] as const),
        );
        requirePassable(contents.map(([, content]) => content));
        return bodies.store({ content: JSON.stringify(Object.fromEntries(contents), null, 2) });
      }),

    /** Outputs of the steps of a run that are done, by name. */
    finishedSteps: (runId: string): Promise<Readonly<Record<string, string>>> =>
      failing(async () => Object.fromEntries(await runSteps.outputs(runId))),
  };
}

/** What is wrong with an agent's answer, in words for the agent. */
function outputProblem(schema: Readonly<Record<string, unknown>>, content: string): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    return 'Your answer has to be JSON and nothing else. Answer again.';
  }
  const problem = valueProblem(schema, value, 'answer');
  return problem && `Your answer does not follow its schema: ${problem}. Answer again.`;
}

/** What a supervisor tells a worker: the task, or whatever it said instead. */
function taskOf(args: string): string {
  try {
    const { task } = JSON.parse(args) as { readonly task?: unknown };
    if (typeof task === 'string') return task;
  } catch {
    // Models do not always write JSON.
  }
  return args;
}

/** Who is asked over HTTP has no way to hand out tasks. */
export const remoteSupervisor = (name: string) =>
  new HoldfastError('caller_invalid_request', `'${name}' is a remote agent; a coordinator has to be a prompt agent.`, {
    param: 'workflow',
  });

function toAgentInUse(
  { name, definition }: { readonly name: string; readonly definition: AgentDefinition },
  definitionRef: string,
): AgentInUse {
  const { kind } = definition;
  if (definition.kind === 'remote') {
    const { timeoutMs, maxAttempts } = definition;
    return { name, definitionRef, kind, timeoutMs, maxAttempts };
  }
  const { maxTurns, approveOverNanos } = definition.limits;
  const tools = definition.tools.map(({ name, timeoutMs, maxAttempts, approval }) => [
    name,
    { timeoutMs, maxAttempts, ...(approval && { approval }) },
  ]);
  return {
    name,
    definitionRef,
    kind,
    maxTurns,
    ...(approveOverNanos !== undefined && { approveOverNanos }),
    ...(tools.length > 0 && { tools: Object.fromEntries(tools) }),
  };
}
