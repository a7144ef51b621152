import type { ModelRequest } from '../domain/chat.ts';

type ReasoningEffort = NonNullable<ModelRequest['reasoning_effort']>;

/** Claude up to 4.5 thinks within a token budget; later models decide by themselves, steered by effort. */
export const thinksByBudget = (model: string): boolean =>
  /claude-(3|(opus|sonnet|haiku)-4(-[015](\D|$)|-20|$))/.test(model);

const EFFORTS = {
  none: undefined,
  minimal: 'low',
  low: 'low',
  medium: 'medium',
  high: 'high',
  xhigh: 'xhigh',
  max: 'max',
} as const;

/** OpenAI's `reasoning_effort` in Claude's words. */
export const effortOf = (effort: ReasoningEffort | undefined) => EFFORTS[effort ?? 'none'];

const BUDGETS = {
  none: 0,
  minimal: 1_024,
  low: 2_048,
  medium: 8_192,
  high: 16_384,
  xhigh: 32_768,
  max: 32_768,
} as const;
/** The least the API allows. */
const MIN_BUDGET = 1_024;

/** Thinking tokens for an effort, leaving room for an answer; undefined when the output limit is too small to think. */
export function thinkingBudgetOf(effort: ReasoningEffort, maxTokens: number): number | undefined {
  const budget = Math.min(BUDGETS[effort], maxTokens - MIN_BUDGET);
  return budget >= MIN_BUDGET ? budget : undefined;
}
