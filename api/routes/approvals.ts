import { createTwoFilesPatch } from 'diff';
import { z } from 'zod';
import type { ShownSubject } from '../../activities/pipeline/approvals.ts';
import { APPROVAL_STATES } from '../../domain/approval.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { toDollars } from '../../domain/money.ts';
import { ROLES } from '../../domain/roles.ts';
import { toSeconds } from '../../domain/time.ts';
import type { Approval } from '../../storage/postgres/approvals.ts';
import { type AuthenticatedCaller, personOf, visibleTo } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import { cursor, errorEnvelope, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const text = z.string().nullable();

/** What somebody has to agree to, with what he needs to know for it. Times are seconds since the epoch. */
const approvalObject = z.object({
  id: z.string(),
  object: z.literal('approval'),
  status: z.enum(APPROVAL_STATES),
  kind: z.enum(['step', 'tool_call', 'model_call']),
  workflow_id: z.string(),
  step: z.string(),
  team: text,
  /** Who started the workflow, and those that it repeats. */
  requesters: z.array(z.string()),
  title: z.string(),
  reason: text,
  /** What will be done; whoever approves may change it. */
  payload: z.string(),
  /** By how much that differs from what there was before: a unified diff. null where there was nothing. */
  diff: text,
  /** What the workflow has cost so far. */
  cost_usd: z.number(),
  approvers: z.object({ roles: z.array(z.enum(ROLES)), count: z.number(), not_requester: z.boolean() }),
  escalations: z.number(),
  votes: z.array(
    z.object({
      actor: z.string(),
      decision: z.enum(['approve', 'reject']),
      comment: text,
      edited: z.boolean(),
      at: z.string(),
    }),
  ),
  expires_at: z.number(),
  created_at: z.number(),
  decided_at: z.number().nullable(),
});

const vote = z.strictObject({
  approval_id: z.string().min(1),
  decision: z.enum(['approve', 'reject']),
  comment: z.string().max(10_000).optional(),
  /** What is to be done instead of what was asked for; only with `approve`. */
  payload: z.union([z.string().max(1_000_000), z.record(z.string(), z.unknown())]).optional(),
});

/** Why what will be done cannot be changed like that. */
function changeProblem(kind: Approval['kind'], decision: string, payload: string | object): string | undefined {
  if (decision === 'reject') return 'What is rejected is not done, so there is nothing to change about it.';
  if (kind === 'model_call') return 'There is nothing to change about a model call.';
  if (kind === 'tool_call' && !isObject(payload)) return 'The arguments of a tool call are a JSON object.';
  return undefined;
}

function isObject(payload: string | object): boolean {
  try {
    const value: unknown = typeof payload === 'string' ? JSON.parse(payload) : payload;
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

interface Said {
  readonly comment?: string;
  readonly payload?: string;
}

/** Seconds: a year. */
const MAX_AGE = 365 * 86_400;

const failures = { '4xx': errorEnvelope, '5xx': errorEnvelope };

/** What people have to agree to. */
export const approvals: Routes = async (app, deps) => {
  // A workflow says itself who may decide.
  const access = 'authenticated';
  const tags = ['approvals'];
  const found = async (id: string, caller: AuthenticatedCaller): Promise<Approval> => {
    const approval = await deps.approvals.find(id, visibleTo(caller));
    if (!approval) throw new HoldfastError('caller_not_found', `There is no approval '${id}'.`);
    return approval;
  };

  const pending = {
    summary: 'What waits for approval, longest first',
    tags,
    querystring: z.object({
      limit,
      cursor,
      /** What somebody with this role may decide. */
      role: z.enum(ROLES).optional(),
      /** What the caller may decide. */
      mine: z.stringbool().default(false),
      team: z.string().optional(),
      workflow_id: z.string().optional(),
      /** Seconds it has waited at least. */
      min_age: z.coerce.number().min(0).max(MAX_AGE).optional(),
    }),
    response: { 200: z.object({ data: z.array(approvalObject), next_cursor: text }), ...failures },
  };
  app.get('/approvals/pending', { config: { access }, schema: pending }, async ({ query, caller }) => {
    const { role, mine, workflow_id: runId, min_age: minAge, limit, ...page } = query;
    const roles = mine ? caller.roles : role && [role];
    const filter = { visible: visibleTo(caller), state: 'pending', roles, runId, minAge } as const;
    const rows = await deps.approvals.list({ ...page, ...filter, limit: limit + 1 });
    const data = await Promise.all(rows.slice(0, limit).map((row) => toObject(deps, row)));
    return { data, next_cursor: rows.length > limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = {
    summary: 'One approval',
    tags,
    params: z.object({ id: z.string() }),
    response: { 200: approvalObject, ...failures },
  };
  app.get('/approvals/:id', { config: { access }, schema: read }, async ({ params, caller }) =>
    toObject(deps, await found(params.id, caller)),
  );

  const decide = {
    summary: 'Approve or reject',
    description: 'Counts once: whoever comes second, or after the workflow has ended, gets a 409.',
    tags,
    body: vote,
    response: { 200: approvalObject, ...failures },
  };
  app.post('/approvals', { config: { access, audit: 'approval.decide' }, schema: decide }, async ({ body, caller }) => {
    const { approval_id, decision, comment, payload } = body;
    const { id, runId, kind } = await found(approval_id, caller);
    const problem = payload === undefined ? undefined : changeProblem(kind, decision, payload);
    if (problem) throw new HoldfastError('caller_invalid_request', problem, { param: 'payload' });
    const content = payload === undefined || typeof payload === 'string' ? payload : JSON.stringify(payload, null, 2);
    const said: Said = { ...(comment && { comment }), ...(content !== undefined && { payload: content }) };
    await deps.runs.decide(runId, {
      approvalId: id,
      decision,
      actor: caller.user === null ? caller.actor : `user:${caller.user}`,
      person: personOf(caller),
      roles: caller.roles,
      at: new Date().toISOString(),
      ...(Object.keys(said).length > 0 && { saidRef: await deps.bodies.store(said) }),
      ...(content !== undefined && { payloadRef: await deps.bodies.store({ content }) }),
    });
    return toObject(deps, await found(id, caller));
  });
};

/** null where they have too little in common for it to be worth the time. */
const diffOf = (before: string, after: string): string | null =>
  createTwoFilesPatch('before', 'after', `${before}\n`, `${after}\n`, undefined, undefined, DIFF_LIMITS) ?? null;

const DIFF_LIMITS = { maxEditLength: 500, timeout: 50 } as const;

async function toObject({ bodies }: ApiDeps, approval: Approval): Promise<z.input<typeof approvalObject>> {
  const subject = await bodies.get<ShownSubject>(approval.subjectRef);
  const { title = '', reason = null, before } = subject ?? {};
  const changed =
    approval.payloadRef === null ? undefined : await bodies.get<{ readonly content: string }>(approval.payloadRef);
  const payload = changed?.content ?? subject?.payload ?? '';
  const votes = approval.votes.map(async ({ actor, decision, at, said_ref }) => {
    const said = said_ref === undefined ? undefined : await bodies.get<Said>(said_ref);
    return { actor, decision, comment: said?.comment ?? null, edited: said?.payload !== undefined, at };
  });
  return {
    id: approval.id,
    object: 'approval',
    status: approval.state,
    kind: approval.kind,
    workflow_id: approval.runId,
    step: approval.step,
    team: approval.team,
    requesters: [...approval.requesters],
    title,
    reason,
    payload,
    diff: before === undefined ? null : diffOf(before, payload),
    cost_usd: toDollars(approval.costNanos),
    approvers: { roles: [...approval.roles], count: approval.count, not_requester: approval.notRequester },
    escalations: approval.level,
    votes: await Promise.all(votes),
    expires_at: toSeconds(approval.expiresAt),
    created_at: toSeconds(approval.createdAt),
    decided_at: approval.decidedAt && toSeconds(approval.decidedAt),
  };
}
