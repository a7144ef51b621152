import type { AgentChoice } from './agent.ts';
import type { ApprovalTerms } from './approval.ts';

/** How the steps of a pipeline follow each other. */
export const PATTERNS = ['single', 'sequential', 'parallel', 'supervisor', 'human_in_loop'] as const;

export type Pattern = (typeof PATTERNS)[number];

interface AnyStep {
  /** Unique within the pipeline. */
  readonly name: string;
}

/** One agent. */
export interface SingleStep extends AnyStep {
  readonly pattern: 'single';
  readonly agent: AgentChoice;
}

/** One after the other, each with the output of the one before. */
export interface SequentialStep extends AnyStep {
  readonly pattern: 'sequential';
  readonly steps: readonly Step[];
}

/** Side by side, all with the same input. The others are cancelled as soon as enough have succeeded. */
export interface ParallelStep extends AnyStep {
  readonly pattern: 'parallel';
  readonly branches: readonly Step[];
  /** Branches that have to succeed. */
  readonly quorum: number;
  readonly maxConcurrency: number;
  /** Makes one output of theirs. */
  readonly merge?: Step;
}

/** An agent that hands out work to others, until it has an answer. */
export interface SupervisorStep extends AnyStep {
  readonly pattern: 'supervisor';
  readonly coordinator: AgentChoice;
  readonly workers: readonly { readonly name: string; readonly agent: AgentChoice }[];
  /** Times it may be asked. */
  readonly maxRounds: number;
}

/** Somebody has to agree, and may change what was proposed. */
export interface HumanStep extends AnyStep {
  readonly pattern: 'human_in_loop';
  readonly approval: ApprovalTerms;
}

/**
 * A step as its workflow knows it. What it says to agents and people is in the run's input, so that histories hold no
 * prompts.
 */
export type Step = SingleStep | SequentialStep | ParallelStep | SupervisorStep | HumanStep;

/** States of a step. */
export const STEP_STATES = ['running', 'completed', 'failed', 'cancelled'] as const;

export type StepState = (typeof STEP_STATES)[number];

/** The steps of a step, in the order in which they begin. */
export function childrenOf(step: Step): readonly Step[] {
  if (step.pattern === 'sequential') return step.steps;
  if (step.pattern !== 'parallel') return [];
  return step.merge ? [...step.branches, step.merge] : step.branches;
}

/** The step and all below it, each before those below it. */
export const stepsOf = (step: Step): readonly Step[] => [step, ...childrenOf(step).flatMap(stepsOf)];

/**
 * The steps whose outputs depend on that of `name`: itself, what it consists of, what it is part of, and what follows it.
 * Undefined when there is no such step.
 */
export function stepsFrom(step: Step, name: string): readonly Step[] | undefined {
  if (step.name === name) return stepsOf(step);
  const children = childrenOf(step);
  for (const [index, child] of children.entries()) {
    const within = stepsFrom(child, name);
    if (!within) continue;
    const later = children.slice(index + 1);
    const following = step.pattern === 'parallel' ? later.filter((one) => one === step.merge) : later;
    return [step, ...within, ...following.flatMap(stepsOf)];
  }
  return undefined;
}

/** The steps as people read them: a Markdown list. */
export function outlineOf(step: Step, depth = 0): string {
  const line = `${'  '.repeat(depth)}- **${step.name}**: ${describe(step)}`;
  return [line, ...childrenOf(step).map((child) => outlineOf(child, depth + 1))].join('\n');
}

function describe(step: Step): string {
  switch (step.pattern) {
    case 'single':
      return nameOf(step.agent);
    case 'sequential':
      return 'one after the other';
    case 'parallel':
      return `side by side, ${step.quorum} of ${step.branches.length} have to succeed`;
    case 'supervisor':
      return `${nameOf(step.coordinator)} hands out to ${step.workers.map(({ name }) => name).join(', ')}`;
    case 'human_in_loop':
      return `${step.approval.approvers.count} of ${step.approval.approvers.roles.join(', ')} to approve`;
  }
}

const nameOf = (choice: AgentChoice): string =>
  'agent' in choice ? `agent ${choice.agent}` : `an agent that can ${choice.capability}`;
