import { CallFailed } from '../../calls/call-failed.ts';
import type { AgentDefinition, PromptAgent } from '../../domain/agent.ts';
import type { Caller } from '../../domain/caller.ts';
import type { ModelResult, ToolCall } from '../../domain/chat.ts';
import { textOf } from '../../domain/chat.ts';
import { faultOf, HoldfastError, toHoldfastError } from '../../domain/errors.ts';
import { readPipeline, type StepTexts } from '../../domain/pipeline-body.ts';
import type { PipelineBody } from '../../domain/pipeline-request.ts';
import type { Agents } from '../../storage/postgres/agents.ts';
import type { Bodies } from '../../storage/postgres/bodies.ts';
import type { RunSteps } from '../../storage/postgres/run-steps.ts';
import type { Run, Runs } from '../../storage/postgres/runs.ts';
import { toFailure, toInfrastructureFailure } from '../failures.ts';

export interface PipelineDeps {
  readonly bodies: Bodies;
  readonly runs: Runs;
  readonly runSteps: RunSteps;
  readonly agents: Agents;
}

/** A text as it passes between steps. */
export interface Content {
  readonly content: string;
}

export interface OpenPipeline {
  readonly run: Run;
  readonly caller: Caller;
  readonly input: string;
  /** By the names of steps. */
  readonly texts: ReadonlyMap<string, StepTexts>;
}

/** What activities of pipelines read: bodies by reference, and what the run was asked. */
export class PipelineContext {
  private readonly deps: PipelineDeps;

  constructor(deps: PipelineDeps) {
    this.deps = deps;
  }

  async open(runId: string): Promise<OpenPipeline> {
    const run = await this.deps.runs.find(runId, undefined);
    if (!run) throw new HoldfastError('caller_not_found', `There is no run '${runId}'.`);
    const { body, caller } = await this.body<{ readonly body: PipelineBody; readonly caller: Caller }>(run.inputRef);
    return { run, caller, input: body.input, texts: readPipeline(body.workflow).texts };
  }

  async body<T extends object>(ref: string): Promise<T> {
    const body = await this.deps.bodies.get<T>(ref);
    if (!body) throw new HoldfastError('gateway_internal', 'A part of the run is not kept any more.');
    return body;
  }

  async content(ref: string): Promise<string> {
    return (await this.body<Content>(ref)).content;
  }

  async promptAgent(definitionRef: string): Promise<PromptAgent> {
    const definition = await this.body<AgentDefinition>(definitionRef);
    if (definition.kind !== 'prompt') throw new HoldfastError('gateway_internal', 'The agent is not a prompt agent.');
    return definition;
  }

  /** The tool call of a model's answer. */
  async toolCall(responseRef: string, callId: string): Promise<ToolCall> {
    const { choices } = await this.body<ModelResult>(responseRef);
    const call = choices[0]?.message.tool_calls?.find(({ id }) => id === callId);
    if (call?.type === 'function') return call as ToolCall;
    throw new HoldfastError('gateway_internal', 'The model did not make that call.');
  }
}

/** The text of a model's answer. Throws `provider_content_filtered` where it refused. */
export function textOfAnswer({ choices }: ModelResult): string {
  const message = choices[0]?.message;
  if (message?.refusal && !message.content) {
    throw new HoldfastError('provider_content_filtered', 'The model refused to answer.');
  }
  return textOf(message?.content ?? '');
}

/** Errors as workflows see them: those of the gateway's parts are tried again, all others end the step. */
export async function failing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (thrown instanceof CallFailed) throw toFailure(thrown.error, thrown.retryInMs);
    const error = toHoldfastError(thrown);
    throw faultOf(error.code) === 'gateway' ? toInfrastructureFailure(error) : toFailure(error);
  }
}
