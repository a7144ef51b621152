import type { AgentChoice } from './agent.ts';
import type { ApprovalTerms, DecidedState, Vote } from './approval.ts';
import type { ErrorInfo } from './errors.ts';
import type { ModelCall } from './model-call.ts';
import type { NanoDollars } from './money.ts';
import type { Pattern, Step, StepState } from './pipeline.ts';

/** What a run may use. Reaching one stops it until somebody raises that. */
export interface RunLimits {
  /** Of all its model calls. */
  readonly maxCostNanos?: NanoDollars;
  /** Model calls, tool calls and calls of remote agents. */
  readonly maxSteps?: number;
  /** Milliseconds from its start. */
  readonly maxDurationMs?: number;
}

/** Of the fields of `RunLimits`, as callers name them. */
export const LIMIT_PARAMS = { maxSteps: 'max_steps', maxDurationMs: 'max_duration' } as const;

export interface PipelineInput {
  readonly runId: string;
  readonly root: Step;
  /** Body: what it was given. */
  readonly inputRef: string;
  /** Who started it, and those that it repeats. */
  readonly requesters: readonly string[];
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  readonly limits: RunLimits;
  /** Steps of it are done already: by the run that it repeats, or by earlier runs of the workflow. */
  readonly resumes?: boolean;
  readonly carried?: CarriedPipeline;
}

/** What the next run of a pipeline's workflow has to know. */
export interface CarriedPipeline {
  readonly startedAt: number;
  readonly paused: boolean;
  readonly exceeded?: ErrorInfo;
  readonly spentNanos: NanoDollars;
  readonly steps: number;
  readonly conversations: readonly Conversation[];
  readonly approvals: readonly CarriedApproval[];
  readonly messages: readonly AgentMessageRef[];
}

export interface AgentMessageRef {
  readonly id: string;
  /** Name of an agent. */
  readonly to: string;
}

/** What an agent does: for a step of its own, or for a supervisor. */
export interface AgentTask {
  readonly step: string;
  readonly choice: AgentChoice;
  readonly input: StepInput;
  /** The supervisor it works for. */
  readonly parent?: string;
}

/** A body, or what a model said when it handed out the task. */
export type StepInput = { readonly ref: string } | { readonly responseRef: string; readonly callId: string };

/** An agent as its step found it; later changes are for later steps. */
export interface AgentInUse {
  readonly name: string;
  /** Body. */
  readonly definitionRef: string;
  readonly kind: 'prompt' | 'remote';
  /** Milliseconds one request to it may take, if it is remote. */
  readonly timeoutMs?: number;
  /** Requests of one step, if it is remote. */
  readonly maxAttempts?: number;
  readonly maxTurns?: number;
  readonly approveOverNanos?: NanoDollars;
  /** By name. */
  readonly tools?: Readonly<Record<string, ToolInUse>>;
}

export interface ToolInUse {
  readonly timeoutMs: number;
  readonly maxAttempts: number;
  readonly approval?: ApprovalTerms;
}

export interface StepToBegin {
  readonly runId: string;
  readonly step: string;
  readonly pattern: Pattern;
  readonly parent?: string;
  readonly choice?: AgentChoice;
  readonly input: StepInput;
  /** Of a prompt agent, if that is to be prepared too. */
  readonly firstTurn?: TurnTerms;
}

export interface BegunStep {
  /** Body: what the step was given. */
  readonly inputRef: string;
  readonly agent?: AgentInUse;
  readonly firstTurn?: PreparedTurn;
}

/** What became of one tool call: its result, a body, or why there is none. */
export type ToolResult =
  | { readonly callId: string; readonly ref: string }
  | { readonly callId: string; readonly problem: string; readonly saidRef?: string };

/** A model's answer that has not been dealt with. */
export interface Answer {
  readonly requestId: string;
  readonly responseRef: string;
  readonly toolCalls: readonly { readonly id: string; readonly name: string }[];
  readonly results: readonly ToolResult[];
  /** Body: what is wrong with it. */
  readonly problemRef?: string;
}

/** Where an agent is with its step. */
export interface Conversation {
  readonly step: string;
  readonly inputRef: string;
  readonly agent: AgentInUse;
  /** From 1. */
  readonly turn: number;
  /** To the turn before. */
  readonly answer?: Answer;
  /** Messages that this turn takes in. */
  readonly messages?: readonly string[];
}

export interface TurnTerms {
  /** Agents it may hand out tasks to. */
  readonly workers?: readonly { readonly name: string; readonly agent: AgentChoice }[];
  /** The most the call may cost. */
  readonly maxCostNanos?: NanoDollars;
  /** It has to answer now. */
  readonly last: boolean;
}

export interface TurnToPrepare extends TurnTerms {
  readonly runId: string;
  readonly step: string;
  readonly turn: number;
  readonly inputRef: string;
  readonly definitionRef: string;
  readonly answer?: Answer;
  /** Messages for it since its last turn. */
  readonly messages: readonly string[];
}

export interface PreparedTurn {
  readonly call: ModelCall;
  readonly spentNanos: NanoDollars;
}

export interface StepEnding {
  readonly runId: string;
  readonly step: string;
  readonly state: Exclude<StepState, 'running'>;
  readonly error?: ErrorInfo;
  /** The model's answer whose text is the output. */
  readonly responseRef?: string;
  /** Whose output schema the answer has to follow. */
  readonly definitionRef?: string;
  readonly outputRef?: string;
}

export interface FinishedStep {
  /** Body; absent where there is none. */
  readonly outputRef?: string;
  /** Body: why the answer is not the output; the step goes on. */
  readonly problemRef?: string;
  readonly spentNanos: NanoDollars;
}

export interface BranchesToJoin {
  readonly runId: string;
  readonly step: string;
  readonly outputs: readonly { readonly name: string; readonly ref: string }[];
}

export interface ToolCallToMake {
  readonly runId: string;
  readonly step: string;
  readonly turn: number;
  readonly definitionRef: string;
  readonly responseRef: string;
  readonly callId: string;
  /** Body: the arguments that somebody changed. */
  readonly payloadRef?: string;
}

export interface RemoteTask {
  readonly runId: string;
  readonly step: string;
  readonly inputRef: string;
  readonly definitionRef: string;
  readonly messages: readonly string[];
}

/** What somebody has to agree to. */
export type ApprovalSubject =
  | { readonly kind: 'step'; readonly inputRef: string }
  | {
      readonly kind: 'tool_call';
      readonly definitionRef: string;
      readonly responseRef: string;
      readonly callId: string;
    }
  | { readonly kind: 'model_call'; readonly requestId: string; readonly maxCostNanos: NanoDollars };

export interface ApprovalToRequest {
  readonly id: string;
  readonly runId: string;
  readonly step: string;
  readonly requesters: readonly string[];
  readonly terms: ApprovalTerms;
  readonly subject: ApprovalSubject;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface CarriedApproval {
  readonly id: string;
  readonly terms: ApprovalTerms;
  readonly askedAt: number;
  /** Escalations and reminders that took place. */
  readonly level: number;
  readonly reminders: number;
  readonly votes: readonly Vote[];
  /** Changes so far. */
  readonly revision: number;
  /** Body: what will be done, where somebody changed it. */
  readonly payloadRef?: string;
  /** Decided, and its step does not know yet. */
  readonly outcome?: DecidedState;
}
