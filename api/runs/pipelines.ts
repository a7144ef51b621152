import type { AgentChoice } from '../../domain/agent.ts';
import { type Caller, toCaller } from '../../domain/caller.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import { type Step, stepsFrom, stepsOf } from '../../domain/pipeline.ts';
import { readPipeline } from '../../domain/pipeline-body.ts';
import type { PipelineBody } from '../../domain/pipeline-request.ts';
import type { PipelineInput, RunLimits } from '../../domain/pipeline-run.ts';
import { attribute } from '../../planning/plan.ts';
import type { Agent } from '../../storage/postgres/agents.ts';
import { personOf } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import { attachTo, hasEnded, type RunInput, requireTime, rowOf, startOrClose } from './background.ts';
import type { NewJob } from './jobs/job-kind.ts';
import { type SubmittedRun, submitOnce } from './submit-once.ts';

export const PIPELINE_ENDPOINT = '/workflows/start';

export interface PipelineSubmission extends Omit<NewJob, 'body'> {
  readonly body: PipelineBody;
}

/** Accepts a pipeline: committed in Postgres and acknowledged by Temporal. Throws when a named agent is not there. */
export async function submitPipeline(deps: ApiDeps, submission: PipelineSubmission): Promise<SubmittedRun> {
  const { body, caller, terms, idempotencyKey, retryOf, from } = submission;
  // What has ended is answered again, even if nothing like it would be accepted any more.
  const holder = idempotencyKey && (await deps.idempotency.holder(idempotencyKey));
  if (holder !== undefined && (await hasEnded(deps, holder))) return { id: holder, replayed: true };
  requireTime(terms);
  const { root } = readPipeline(body.workflow);
  await requireAgents(deps, root, caller);
  const kept = retryOf === undefined ? [] : keptSteps(root, from);
  const id = newId('pipe');
  const requesters = [...new Set(submission.requesters ?? [personOf(caller)])];
  const input: RunInput = { endpoint: PIPELINE_ENDPOINT, body, caller: toCaller(caller), requesters };
  const given = deps.bodies.seal({ content: body.input });
  const limits = limitsOf(submission);
  const startOf = (runId: string) => ({
    input: toPipelineInput(runId, submission, { root, inputRef: given.ref, limits, requesters }),
    team: caller.team,
    keyName: caller.key?.name ?? caller.actor,
    priority: terms.priority,
    tenant: caller.owner,
  });
  return submitOnce(deps, {
    id,
    idempotencyKey,
    async insert(db) {
      await deps.storedRuns.insert(db, {
        id,
        kind: 'pipeline',
        owner: caller.owner,
        attribution: attribute({ caller, metadata: terms.metadata }),
        model: null,
        input: deps.bodies.seal(input),
        ...rowOf(submission),
      });
      await deps.storedRuns.setLimits(id, limits, db);
      await deps.bodies.insert(given, db);
      if (retryOf !== undefined) await deps.runSteps.keep(db, id, { from: retryOf, steps: kept });
    },
    start: () => startOrClose(deps, id, () => deps.runs.startPipeline(startOf(id))),
    attach: (holder) => attachTo(deps, holder, () => deps.runs.startPipeline(startOf(holder))),
  });
}

function toPipelineInput(
  runId: string,
  { terms, retryOf }: PipelineSubmission,
  planned: Pick<PipelineInput, 'root' | 'inputRef' | 'limits' | 'requesters'>,
): PipelineInput {
  return {
    runId,
    ...planned,
    deadlineAt: terms.deadlineAt.getTime(),
    ...(retryOf !== undefined && { resumes: true }),
  };
}

const limitsOf = ({
  body: { max_steps: maxSteps, max_duration },
  terms: { maxCostNanos },
}: PipelineSubmission): RunLimits => ({
  ...(maxCostNanos !== undefined && { maxCostNanos }),
  ...(maxSteps !== undefined && { maxSteps }),
  ...(max_duration !== undefined && { maxDurationMs: max_duration * 1000 }),
});

/** The steps whose outputs a run takes over from the one it repeats, if they are done. */
function keptSteps(root: Step, from: string | undefined): readonly string[] {
  const names = stepsOf(root).map(({ name }) => name);
  if (from === undefined) return names;
  const again = stepsFrom(root, from);
  if (!again) throw new HoldfastError('caller_invalid_request', `There is no step '${from}'.`, { param: 'from' });
  return names.filter((name) => !again.some((step) => step.name === name));
}

/** Those that are chosen by capability may come later. */
async function requireAgents({ agents }: ApiDeps, root: Step, caller: Caller): Promise<void> {
  const found = new Map<string, Agent>();
  for (const name of new Set(stepsOf(root).flatMap(agentsOf))) {
    const agent = await agents.find(name, caller);
    if (!agent) throw unusable(`There is no agent '${name}'.`);
    found.set(name, agent);
  }
  for (const step of stepsOf(root)) {
    if (step.pattern !== 'supervisor' || !('agent' in step.coordinator)) continue;
    const { agent: name } = step.coordinator;
    const definition = found.get(name)?.definition;
    if (definition?.kind === 'remote')
      throw unusable(`'${name}' is a remote agent; a coordinator has to be a prompt agent.`);
    const clash = definition?.tools.find((tool) => step.workers.some((worker) => worker.name === tool.name));
    if (clash) throw unusable(`'${name}' has a tool '${clash.name}'; a worker needs another name.`);
  }
}

const unusable = (message: string) => new HoldfastError('caller_invalid_request', message, { param: 'workflow' });

function agentsOf(step: Step): readonly string[] {
  const named = (choice: AgentChoice) => ('agent' in choice ? [choice.agent] : []);
  if (step.pattern === 'single') return named(step.agent);
  if (step.pattern !== 'supervisor') return [];
  return [...named(step.coordinator), ...step.workers.flatMap(({ agent }) => named(agent))];
}
