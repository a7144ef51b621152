import type { Gateway } from './gateway.ts';

export const STEPS = ['one', 'two', 'three', 'four', 'five'] as const;

const steps = STEPS.map((agent) => ({ pattern: 'single', agent }));

export interface Pattern {
  readonly name: string;
  readonly workflow: object;
  /** What agents and people do in it: model calls and decisions. */
  readonly steps: number;
}

/** Five agents, one after the other. */
export const FIVE_STEPS: Pattern = { name: 'sequential of five', workflow: { pattern: 'sequential', steps }, steps: 5 };

export const PATTERNS: readonly Pattern[] = [
  { name: 'single', workflow: { pattern: 'single', agent: 'one' }, steps: 1 },
  FIVE_STEPS,
  { name: 'parallel of five', workflow: { pattern: 'parallel', branches: steps }, steps: 5 },
  {
    name: 'supervisor with two workers',
    workflow: { pattern: 'supervisor', coordinator: 'one', workers: ['two', 'three'] },
    // The coordinator is asked twice.
    steps: 4,
  },
  { name: 'human_in_loop', workflow: { pattern: 'human_in_loop', title: 'May it?' }, steps: 1 },
];

/** An agent with a tool, which takes as many turns as its input says. */
export const WITH_TOOL = { pattern: 'single', agent: 'with-tool' };

const MAX_TURNS = 200;

/** What makes the upstream take `turns` turns: it calls the tool in all but the last. */
export const inputFor = (turns: number): string => `rounds=${turns - 1}`;

/** @param upstream Port of the upstream, which is the tool as well. */
export async function registerAgents(gateway: Gateway, upstream: number): Promise<void> {
  for (const name of STEPS) await gateway.register({ name, instructions: `You are step ${name} of five.` });
  const tool = { type: 'http', name: 'look_up', url: `http://127.0.0.1:${upstream}/tool` };
  const limits = { max_turns: MAX_TURNS };
  await gateway.register({ name: 'with-tool', instructions: 'You look things up.', tools: [tool], limits });
}
