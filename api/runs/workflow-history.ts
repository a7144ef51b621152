import { z } from 'zod';
import { toDollars } from '../../domain/money.ts';
import type { Run } from '../../storage/postgres/runs.ts';
import type { ApiDeps } from '../context.ts';

/** Something a pipeline did. `at` is ISO. */
export const historyEntry = z.object({
  at: z.string(),
  type: z.enum([
    'workflow.accepted',
    'workflow.ended',
    'step.started',
    'step.ended',
    'model_call',
    'approval.requested',
    'approval.vote',
    'approval.decided',
    'message',
  ]),
  step: z.string().optional(),
  status: z.string().optional(),
  /** Who did it: an agent, a provider's model, a person. */
  by: z.string().optional(),
  details: z.record(z.string(), z.unknown()).optional(),
});

type Entry = z.input<typeof historyEntry>;

/** Everything a pipeline did, from what the database knows of it. */
export async function historyOf(deps: ApiDeps, run: Run): Promise<readonly Entry[]> {
  const entries = [...ofRun(run), ...(await ofSteps(deps, run)), ...(await ofCalls(deps, run))];
  const rest = [...(await ofApprovals(deps, run)), ...(await ofMessages(deps, run))];
  return [...entries, ...rest].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}

const MOST = 500;

function ofRun({ createdAt, completedAt, state, error, costNanos }: Run): readonly Entry[] {
  const accepted: Entry = { at: createdAt.toISOString(), type: 'workflow.accepted' };
  if (!completedAt) return [accepted];
  const details = { cost_usd: toDollars(costNanos), ...(error && { error: error.message }) };
  return [accepted, { at: completedAt.toISOString(), type: 'workflow.ended', status: state, details }];
}

async function ofSteps({ runSteps }: ApiDeps, { id }: Run): Promise<readonly Entry[]> {
  const steps = await runSteps.list(id);
  return steps.flatMap(({ name: step, agent, pattern, state, error, kept, costNanos, startedAt, completedAt }) => {
    const who = agent === null ? {} : { by: agent };
    const started: Entry = {
      at: startedAt.toISOString(),
      type: 'step.started',
      step,
      ...who,
      details: { pattern, kept },
    };
    if (!completedAt) return [started];
    const details = { cost_usd: toDollars(costNanos), ...(error && { error: error.message }) };
    return [started, { at: completedAt.toISOString(), type: 'step.ended', step, status: state, ...who, details }];
  });
}

async function ofCalls({ ledger }: ApiDeps, { id }: Run): Promise<readonly Entry[]> {
  const calls = await ledger.ofRun(id);
  return calls.map((call) => ({
    at: call.timestamp.toISOString(),
    type: 'model_call',
    step: call.id.slice(id.length + 1).replace(/\.\d+$/, ''),
    status: call.state,
    by: `${call.provider_used ?? ''}/${call.model_used ?? call.model_requested}`,
    details: {
      id: call.id,
      cost_usd: call.cost_usd,
      total_tokens: call.total_tokens,
      attempts: call.attempts.map(({ target, n, state, error }) => ({ target, n, state, error })),
    },
  }));
}

async function ofApprovals({ approvals }: ApiDeps, { id: runId }: Run): Promise<readonly Entry[]> {
  const asked = await approvals.list({ runId, visible: undefined, limit: MOST });
  return asked.flatMap(({ id, step, kind, state, roles, votes, createdAt, decidedAt }): Entry[] => [
    { at: createdAt.toISOString(), type: 'approval.requested', step, details: { id, kind, roles } },
    ...votes.map(
      ({ at, actor, decision }): Entry => ({ at, type: 'approval.vote', step, status: decision, by: actor }),
    ),
    ...(decidedAt
      ? [{ at: decidedAt.toISOString(), type: 'approval.decided' as const, step, status: state, details: { id } }]
      : []),
  ]);
}

async function ofMessages({ agentMessages }: ApiDeps, { id: runId }: Run): Promise<readonly Entry[]> {
  const messages = await agentMessages.list({ runId, visible: undefined, limit: MOST });
  return messages.map(({ id, sender, recipient, createdAt }) => ({
    at: createdAt.toISOString(),
    type: 'message',
    by: sender,
    details: { id, to: recipient },
  }));
}
