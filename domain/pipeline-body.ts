import { z } from 'zod';
import type { AgentChoice } from './agent.ts';
import { approvalTermsBody, toApprovalTerms } from './approval-body.ts';
import { HoldfastError } from './errors.ts';
import { type ParallelStep, type Step, stepsFrom, stepsOf } from './pipeline.ts';

const name = z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,39}$/, 'must be 1 to 40 letters, digits, - or _');
const agent = z.union([z.string().min(1).max(100), z.strictObject({ capability: z.string().min(1).max(100) })]);
/** Text for an agent or a person; `{{input}}`, `{{previous}}` and `{{steps.<name>}}` stand for what came before. */
const template = z.string().min(1).max(100_000);

const MAX_STEPS = 200;
const MAX_DEPTH = 8;

interface Named {
  readonly name?: string | undefined;
}
interface SingleBody extends Named {
  readonly pattern: 'single';
  readonly agent: z.output<typeof agent>;
  readonly input?: string | undefined;
}
interface SequentialBody extends Named {
  readonly pattern: 'sequential';
  readonly steps: readonly StepBody[];
}
interface ParallelBody extends Named {
  readonly pattern: 'parallel';
  readonly branches: readonly StepBody[];
  readonly join: 'all' | 'any' | { readonly quorum: number };
  readonly max_concurrency: number;
  readonly merge?: StepBody | undefined;
}

const supervisor = z.strictObject({
  pattern: z.literal('supervisor'),
  name: name.optional(),
  coordinator: agent,
  workers: z
    .array(z.union([z.string().min(1).max(64), z.strictObject({ name, agent })]))
    .min(1)
    .max(50),
  /** Times the coordinator may be asked; the last time it has to answer. */
  max_rounds: z.int().min(1).max(100).default(10),
  input: template.optional(),
});
const human = z.strictObject({
  pattern: z.literal('human_in_loop'),
  name: name.optional(),
  title: z.string().min(1).max(200),
  reason: template.optional(),
  /** What will be done. By default the output of the step before. */
  payload: template.optional(),
  /** What there was before; approvers are shown the difference. */
  compare_with: template.optional(),
  approval: approvalTermsBody.prefault({}),
});

export type StepBody =
  | SingleBody
  | SequentialBody
  | ParallelBody
  | z.output<typeof supervisor>
  | z.output<typeof human>;

/** A step of a pipeline as callers write it. */
export const stepBody: z.ZodType<StepBody> = z.lazy(() =>
  z.discriminatedUnion('pattern', [
    z.strictObject({ pattern: z.literal('single'), name: name.optional(), agent, input: template.optional() }),
    z.strictObject({
      pattern: z.literal('sequential'),
      name: name.optional(),
      steps: z.array(stepBody).min(1).max(MAX_STEPS),
    }),
    z.strictObject({
      pattern: z.literal('parallel'),
      name: name.optional(),
      branches: z.array(stepBody).min(1).max(MAX_STEPS),
      /** How many branches have to succeed; the others are cancelled then. */
      join: z.union([z.enum(['all', 'any']), z.strictObject({ quorum: z.int().min(1) })]).default('all'),
      max_concurrency: z.int().min(1).max(100).default(10),
      merge: stepBody.optional(),
    }),
    supervisor,
    human,
  ]),
);
// What refers to itself needs a name in the API's description.
z.globalRegistry.add(stepBody, { id: 'WorkflowStep' });

/** What a step says to agents and people, apart from its structure: it stays out of histories. */
export interface StepTexts {
  readonly title?: string;
  readonly reason?: string;
  readonly payload?: string;
  readonly compareWith?: string;
  readonly input?: string;
}

export interface ReadPipeline {
  readonly root: Step;
  /** By the names of their steps. */
  readonly texts: ReadonlyMap<string, StepTexts>;
}

/** Names all steps and checks what a schema cannot. Throws `caller_invalid_request`. */
export function readPipeline(body: StepBody): ReadPipeline {
  const reader = new Reader(body);
  const root = reader.step(body, 'workflow', 1);
  reader.checkReferences(root);
  return { root, texts: reader.texts };
}

class Reader {
  readonly texts = new Map<string, StepTexts>();
  private readonly taken = new Set<string>();
  private readonly given: ReadonlySet<string>;
  private readonly references: { readonly from: string; readonly to: string; readonly param: string }[] = [];

  constructor(body: StepBody) {
    this.given = new Set(namesIn(body));
  }

  step(body: StepBody, param: string, depth: number): Step {
    if (depth > MAX_DEPTH) throw problem(`Steps may be nested ${MAX_DEPTH} deep.`, param);
    const named = this.named(body, param);
    switch (body.pattern) {
      case 'single':
        this.say(named, { input: body.input }, param);
        return { pattern: 'single', name: named, agent: toChoice(body.agent) };
      case 'sequential': {
        const steps = body.steps.map((step, index) => this.step(step, `${param}.steps[${index}]`, depth + 1));
        return { pattern: 'sequential', name: named, steps };
      }
      case 'parallel':
        return this.parallel(named, body, param, depth);
      case 'supervisor': {
        this.say(named, { input: body.input }, param);
        const workers = body.workers.map((worker) =>
          typeof worker === 'string'
            ? { name: worker, agent: { agent: worker } }
            : { name: worker.name, agent: toChoice(worker.agent) },
        );
        if (new Set(workers.map((worker) => worker.name)).size < workers.length) {
          throw problem('Two workers have the same name.', `${param}.workers`);
        }
        return {
          pattern: 'supervisor',
          name: named,
          coordinator: toChoice(body.coordinator),
          workers,
          maxRounds: body.max_rounds,
        };
      }
      case 'human_in_loop': {
        const { title, reason, payload, compare_with: compareWith } = body;
        this.say(named, { title, reason, payload, compareWith }, param);
        return { pattern: 'human_in_loop', name: named, approval: toApprovalTerms(body.approval) };
      }
    }
  }

  /** What a step refers to has to be there before it begins. */
  checkReferences(root: Step): void {
    const steps = new Map(stepsOf(root).map((step) => [step.name, step]));
    for (const { from, to, param } of this.references) {
      const step = steps.get(to);
      if (!step) throw problem(`There is no step '${to}'.`, param);
      const within = stepsOf(step).some(({ name }) => name === from);
      const follows = stepsFrom(root, to)?.some(({ name }) => name === from);
      if (within || !follows) throw problem(`'${to}' does not end before '${from}' begins.`, param);
    }
  }

  private parallel(named: string, body: ParallelBody, param: string, depth: number): ParallelStep {
    const branches = body.branches.map((step, index) => this.step(step, `${param}.branches[${index}]`, depth + 1));
    const { join, max_concurrency: maxConcurrency } = body;
    const quorum = join === 'all' ? branches.length : join === 'any' ? 1 : join.quorum;
    if (quorum > branches.length) throw problem('There are not that many branches.', `${param}.join.quorum`);
    const merge = body.merge && this.step(body.merge, `${param}.merge`, depth + 1);
    return { pattern: 'parallel', name: named, branches, quorum, maxConcurrency, ...(merge && { merge }) };
  }

  private named(body: StepBody, param: string): string {
    const taken = (candidate: string) => this.taken.has(candidate);
    let found = body.name;
    if (found === undefined) {
      const base = body.pattern === 'single' && typeof body.agent === 'string' ? asName(body.agent) : body.pattern;
      for (let n = 1; found === undefined; n += 1) {
        const candidate = n === 1 ? base : `${base}-${n}`;
        if (!taken(candidate) && !this.given.has(candidate)) found = candidate;
      }
    } else if (taken(found)) {
      throw problem(`Another step is named '${found}' too.`, `${param}.name`);
    }
    this.taken.add(found);
    if (this.taken.size > MAX_STEPS) throw problem(`A pipeline may have ${MAX_STEPS} steps.`, param);
    return found;
  }

  private say(named: string, texts: { readonly [Key in keyof StepTexts]: string | undefined }, param: string): void {
    const said = Object.entries(texts).filter((entry): entry is [string, string] => entry[1] !== undefined);
    for (const [field, text] of said) {
      for (const [, reference = ''] of text.matchAll(PLACEHOLDER)) {
        if (reference === 'input' || reference === 'previous') continue;
        this.references.push({ from: named, to: reference.slice('steps.'.length), param: `${param}.${field}` });
      }
    }
    if (said.length > 0) this.texts.set(named, Object.fromEntries(said));
  }
}

const PLACEHOLDER = /\{\{\s*(input|previous|steps\.[a-zA-Z0-9][a-zA-Z0-9_-]*)\s*\}\}/g;

/** The template with what its placeholders stand for. */
export function fillTemplate(text: string, meaningOf: (reference: string) => string): string {
  return text.replace(PLACEHOLDER, (_, reference: string) => meaningOf(reference));
}

/** What a template refers to: `input`, `previous`, `steps.<name>`. */
export const referencesOf = (text: string): readonly string[] => [
  ...new Set([...text.matchAll(PLACEHOLDER)].map(([, reference = '']) => reference)),
];

function namesIn(body: StepBody): readonly string[] {
  const below =
    body.pattern === 'sequential'
      ? body.steps
      : body.pattern === 'parallel'
        ? [...body.branches, ...(body.merge ? [body.merge] : [])]
        : [];
  return [...(body.name === undefined ? [] : [body.name]), ...below.flatMap(namesIn)];
}

const toChoice = (choice: z.output<typeof agent>): AgentChoice =>
  typeof choice === 'string' ? { agent: choice } : choice;

const asName = (text: string): string =>
  text
    .replace(/[^a-z0-9_-]/gi, '-')
    .replace(/^[-_]+/, '')
    .slice(0, 36) || 'single';

const problem = (message: string, param: string) => new HoldfastError('caller_invalid_request', message, { param });
