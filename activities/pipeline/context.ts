import { CallFailed } from '../../calls/call-failed.ts';
import type { AgentDefinition, PromptAgent } from '../../domain/agent.ts';
import { type Caller, toCaller } from '../../domain/caller.ts';
import type { ModelResult, ToolCall } from '../../domain/chat.ts';
import { textOf } from '../../domain/chat.ts';
import { faultOf, HoldfastError, toHoldfastError } from '../../domain/errors.ts';
import { readPipeline, type StepTexts } from '../../domain/pipeline-body.ts';
import type { PipelineBody } from '../../domain/pipeline-request.ts';
import type { AgentMessages } from '../../storage/postgres/agent-messages.ts';
import type { Agents } from '../../storage/postgres/agents.ts';
import type { Bodies } from '../../storage/postgres/bodies.ts';
import type { RunSteps } from '../../storage/postgres/run-steps.ts';
import type { Run, Runs } from '../../storage/postgres/runs.ts';
import type { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { toFailure, toInfrastructureFailure } from '../failures.ts';

export interface PipelineDeps {
  readonly bodies: Bodies;
  readonly runs: Runs;
  readonly runSteps: RunSteps;
  readonly agents: Agents;
  readonly virtualKeys: VirtualKeys;
  readonly agentMessages: AgentMessages;
}

/** A text as it passes between steps. */
interface Content {
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

  /** Throws `gateway_cancelled` for a run that has ended, whatever its workflow knows: nothing more of it is done. */
  async open(runId: string): Promise<OpenPipeline> {
    const run = await this.deps.runs.find(runId, undefined);
    if (!run) throw new HoldfastError('caller_not_found', `There is no run '${runId}'.`);
    if (run.completedAt) throw new HoldfastError('gateway_cancelled', `The run is ${run.state} already.`);
    const { body, caller } = await this.body<{ readonly body: PipelineBody; readonly caller: Caller }>(run.inputRef);
    return { run, caller: await this.current(caller), input: body.input, texts: readPipeline(body.workflow).texts };
  }

  /** The caller by its key as it is now. Throws `caller_unauthenticated` for one that may not be used any more. */
  private async current(caller: Caller): Promise<Caller> {
    if (caller.keyId === null) return caller;
    const key = await this.deps.virtualKeys.get(caller.keyId);
    const usable = key?.isActive && key.userIsActive && !(key.expiresAt && key.expiresAt.getTime() <= Date.now());
    if (!usable) throw new HoldfastError('caller_unauthenticated', 'The API key of the run may not be used any more.');
    return toCaller({ ...caller, key });
  }

  async body<T extends object>(ref: string): Promise<T> {
    const body = await this.deps.bodies.get<T>(ref);
    if (!body) throw new HoldfastError('gateway_internal', 'A part of the run is not kept any more.');
    return body;
  }

  async content(ref: string): Promise<string> {
    return (await this.body<Content>(ref)).content;
  }

  /** A message for an agent, which has it now. */
  async received(id: string): Promise<{ readonly from: string; readonly content: string }> {
    const message = await this.deps.agentMessages.find(id, undefined);
    if (!message) throw new HoldfastError('gateway_internal', 'A message of the run is not kept any more.');
    const content = await this.content(message.bodyRef);
    await this.deps.agentMessages.markDelivered(id);
    return { from: message.sender, content };
  }

  async promptAgent(definitionRef: string): Promise<PromptAgent> {
    const definition = await this.body<AgentDefinition>(definitionRef);
    if (definition.kind !== 'prompt') throw new HoldfastError('gateway_internal', 'The agent is not a prompt agent.');
    return definition;
  }

  /** The tool call of a model's answer, by its place: some servers give several the same id. */
  async toolCall(responseRef: string, callId: string): Promise<ToolCall> {
    const { choices } = await this.body<ModelResult>(responseRef);
    const call = choices[0]?.message.tool_calls?.[Number(callId) - 1];
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
