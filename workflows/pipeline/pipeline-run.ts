import { condition, setCurrentDetails, setHandler, workflowInfo } from '@temporalio/workflow';
import { type ErrorInfo, MAX_COST_PARAM } from '../../domain/errors.ts';
import type { ModelCall, ModelCallResult } from '../../domain/model-call.ts';
import { type Step, stepsOf } from '../../domain/pipeline.ts';
import {
  type AgentMessageRef,
  type CarriedPipeline,
  type Conversation,
  LIMIT_PARAMS,
  type PipelineInput,
  type RunLimits,
} from '../../domain/pipeline-run.ts';
import type { RunState } from '../../domain/run-state.ts';
import { agentMessage, pauseRun, resumeRun } from '../messages.ts';
import { type CallControls, modelCall } from '../model-call.ts';
import { announceWebhooks } from '../webhook.ts';
import { records } from './activities.ts';
import { Approvals } from './approvals.ts';
import { CostCap } from './cost-cap.ts';
import { Drained } from './drained.ts';

/**
 * What a history may come to before the next run takes over: Temporal warns at 10,240 events, and an agent of 200 turns
 * stays below 2 MB.
 */
const MAX_EVENTS = 8_000;
const MAX_BYTES = 1_800_000;

/** Does a step with what came before it. Returns its output, a body. */
export type Perform = (run: PipelineRun, step: Step, inputRef: string) => Promise<string>;

/** A pipeline under way: what is done to it as a whole, and what its steps have in common. */
export class PipelineRun {
  readonly runId: string;
  readonly approvals: Approvals;
  readonly cost: CostCap;
  /** Outputs of steps that need not be done again. */
  done: ReadonlyMap<string, string> = new Map();
  /** The history is long enough: all that is under way ends at its next step. */
  draining = false;
  private readonly input: PipelineInput;
  private readonly perform_: Perform;
  private readonly startedAt: number;
  private readonly conversations = new Map<string, Conversation>();
  private readonly notes = new Map<string, string>();
  private inbox: readonly AgentMessageRef[];
  private limits: RunLimits;
  private paused: boolean;
  private exceeded: ErrorInfo | undefined;
  private steps: number;
  /** Steps that need a limit raised. */
  private short = 0;
  private recorded: RunState | undefined;
  private over = false;

  constructor(input: PipelineInput, perform: Perform) {
    const { runId, requesters, limits, carried } = input;
    this.input = input;
    this.perform_ = perform;
    this.runId = runId;
    this.limits = limits;
    this.startedAt = carried?.startedAt ?? Date.now();
    this.paused = carried?.paused ?? false;
    this.exceeded = carried?.exceeded;
    this.steps = carried?.steps ?? 0;
    this.inbox = carried?.messages ?? [];
    for (const one of carried?.conversations ?? []) this.conversations.set(one.step, one);
    this.cost = new CostCap({
      maxNanos: limits.maxCostNanos,
      spentNanos: carried?.spentNanos ?? 0,
      sharing: stepsOf(input.root).some(({ pattern }) => pattern === 'parallel' || pattern === 'supervisor'),
      exceeded: (error) => this.exceed(error),
    });
    const draining = () => this.draining;
    this.approvals = new Approvals({ runId, requesters, carried: carried?.approvals ?? [], draining });
    setHandler(pauseRun, async () => {
      this.paused = true;
      await this.untilRecorded();
    });
    setHandler(resumeRun, async (raised) => {
      this.paused = false;
      this.exceeded = undefined;
      this.limits = { ...this.limits, ...raised };
      this.cost.maxNanos = this.limits.maxCostNanos;
      await this.untilRecorded();
    });
    setHandler(agentMessage, (message) => {
      if (!this.inbox.some(({ id }) => id === message.id)) this.inbox = [...this.inbox, message];
    });
  }

  perform(step: Step, inputRef: string): Promise<string> {
    return this.perform_(this, step, inputRef);
  }

  /** What the next run of the workflow begins with. */
  carry(): PipelineInput {
    const { startedAt, paused, exceeded, steps } = this;
    const carried: CarriedPipeline = {
      startedAt,
      paused,
      ...(exceeded && { exceeded }),
      spentNanos: this.cost.spentNanos,
      steps,
      conversations: [...this.conversations.values()],
      approvals: this.approvals.carry(),
      messages: this.inbox,
    };
    return { ...this.input, limits: this.limits, resumes: true, carried };
  }

  conversation(step: string): Conversation | undefined {
    return this.conversations.get(step);
  }

  keep(conversation: Conversation): void {
    this.conversations.set(conversation.step, conversation);
  }

  forget(step: string): void {
    this.conversations.delete(step);
  }

  get hasMessages(): boolean {
    return this.inbox.length > 0;
  }

  /** Ids of the messages that are there for an agent; they are its from now on. */
  messagesFor(agent: string): readonly string[] {
    const mine = this.inbox.filter(({ to }) => to === agent);
    this.inbox = this.inbox.filter(({ to }) => to !== agent);
    return mine.map(({ id }) => id);
  }

  /** Tells the Temporal UI where a step stands. */
  note(step: string, text: string): void {
    this.notes.set(step, text);
    setCurrentDetails([...this.notes].map(([name, note]) => `- **${name}**: ${note}`).join('\n'));
  }

  /** Before anything that costs something: waits while the run is held, and counts it. */
  async step(): Promise<void> {
    await this.gate();
    for (let limit = this.limitReached(); limit; limit = this.limitReached()) await this.exceed(limit);
    this.steps += 1;
  }

  /** Resolves once nothing holds the run. */
  async released(): Promise<void> {
    if (this.held) await condition(() => !this.held);
  }

  async call(step: string, call: ModelCall): Promise<ModelCallResult> {
    const result = await this.cost.within(step, call, () => modelCall(call, this.controlsOf(step, call)));
    if (result.settled?.costNanos !== undefined) this.cost.settled(step, result.settled.costNanos);
    return result;
  }

  /** Records the state of the run until its end. */
  async keepState(): Promise<void> {
    while (!this.over) {
      const state = this.state;
      if (state !== this.recorded) {
        const error = state === 'budget_exceeded' ? this.exceeded : undefined;
        const transition = { state, ...(error && { error }) };
        await announceWebhooks(await records(`state: ${state}`).recordState(this.runId, transition));
      }
      this.recorded = state;
      await condition(() => this.over || this.state !== this.recorded);
    }
  }

  end(): void {
    this.over = true;
  }

  private get state(): RunState {
    if (this.paused) return 'paused';
    if (this.exceeded) return 'budget_exceeded';
    return this.approvals.pending > 0 ? 'input_required' : 'running';
  }

  /** Who changed the state may look at it at once. */
  private async untilRecorded(): Promise<void> {
    await condition(() => this.over || this.recorded === this.state);
  }

  private get held(): boolean {
    return this.paused || this.exceeded !== undefined;
  }

  private async gate(): Promise<void> {
    const { historyLength, historySize, continueAsNewSuggested } = workflowInfo();
    if (continueAsNewSuggested || historyLength > MAX_EVENTS || historySize > MAX_BYTES) this.draining = true;
    if (this.held) await condition(() => !this.held || this.draining);
    if (this.draining) throw new Drained();
  }

  /** Resolves once the run was resumed. */
  private async exceed(error: ErrorInfo): Promise<void> {
    this.exceeded ??= error;
    this.short += 1;
    try {
      await condition(() => !this.held);
    } catch (cancelled) {
      // The last that needed it raised is gone.
      if (this.short === 1) this.exceeded = undefined;
      throw cancelled;
    } finally {
      this.short -= 1;
    }
  }

  private limitReached(): ErrorInfo | undefined {
    const { maxSteps, maxDurationMs } = this.limits;
    if (maxSteps !== undefined && this.steps >= maxSteps) {
      return overLimit(`The run has made the ${maxSteps} steps it may make.`, LIMIT_PARAMS.maxSteps);
    }
    if (maxDurationMs !== undefined && Date.now() - this.startedAt >= maxDurationMs) {
      return overLimit(
        `The run has gone on for the ${maxDurationMs / 1000} s it may take.`,
        LIMIT_PARAMS.maxDurationMs,
      );
    }
    return undefined;
  }

  private controlsOf(step: string, call: ModelCall): CallControls {
    const { cost } = this;
    return {
      get maxCostNanos() {
        return cost.of(step);
      },
      gate: () => this.released(),
      budgetExceeded: (error) => (error.param === MAX_COST_PARAM ? cost.commitMore(step, call) : this.exceed(error)),
      quota: records(`${step}: settle`),
    };
  }
}

const overLimit = (message: string, param: string): ErrorInfo => ({ code: 'policy_budget_exceeded', message, param });
