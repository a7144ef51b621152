import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { newId } from '../../domain/ids.ts';
import { isFinal } from '../../domain/run-state.ts';
import { toSeconds } from '../../domain/time.ts';
import type { AgentMessage } from '../../storage/postgres/agent-messages.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { personOf, visibleTo } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import { idempotencyKeyOf } from '../runs/caller-ids.ts';
import { cursor, errorEnvelope, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const agentName = z.string().min(1).max(100);

const newMessage = z.strictObject({
  /** Name of the agent it is for. */
  to: agentName,
  /** The agent that sends it. @default who asks */
  from: agentName.optional(),
  content: z.string().min(1).max(100_000),
  /** The workflow the agent is part of: it is told at its next turn. */
  workflow_id: z.string().optional(),
});

const messageObject = z.object({
  id: z.string(),
  object: z.literal('message'),
  from: z.string(),
  to: z.string(),
  content: z.string(),
  workflow_id: z.string().nullable(),
  created_at: z.number(),
  /** When the agent was told. */
  delivered_at: z.number().nullable(),
});

const failures = { '4xx': errorEnvelope, '5xx': errorEnvelope };

/** Messages between agents. */
export const messages: Routes = async (app, deps) => {
  const needs = 'models:call';
  const tags = ['agents'];

  const send = {
    summary: 'Send a message to an agent',
    description:
      'It is kept before it is answered. For an agent of a workflow it is delivered to that; any can read it in the inbox. ' +
      '`Idempotency-Key` makes sure that it is sent once.',
    tags,
    body: newMessage,
    response: { 201: messageObject, ...failures },
  };
  app.post('/messages', { config: { needs }, schema: send }, async (request, reply) => {
    const { to: recipient, from, content, workflow_id: runId = null } = request.body;
    const { caller } = request;
    const run = runId === null ? undefined : await deps.storedRuns.find(runId, visibleTo(caller));
    if (runId !== null && run?.kind !== 'pipeline') {
      throw new HoldfastError('caller_not_found', `There is no workflow '${runId}'.`);
    }
    if (run && isFinal(run.state)) throw new HoldfastError('caller_conflict', `The workflow is ${run.state} already.`);
    const key = idempotencyKeyOf(deps.bodies, request, 'messages');
    const fresh = newId('msg');
    const { owner, project } = run ?? caller;
    const body = deps.bodies.seal({ content });
    const sent = { id: fresh, owner, project, runId, sender: from ?? personOf(caller), recipient, body };
    const insert = (db: Sql) => deps.agentMessages.insert(sent, db);
    if (!key) await insert(deps.db);
    const id = key ? await deps.idempotency.once(key, fresh, undefined, insert) : fresh;
    // Also for one that is there already: who sent it may have died before.
    if (run) await deps.runs.message(run.id, { id, to: recipient });
    const message = await deps.agentMessages.find(id, visibleTo(caller));
    if (!message) throw new HoldfastError('gateway_internal', 'The message is not there.');
    return reply.status(201).send(await toObject(deps, message));
  });

  const list = {
    summary: 'Messages, oldest first: an inbox',
    tags,
    querystring: z.object({ limit, cursor, to: agentName.optional(), workflow_id: z.string().optional() }),
    response: { 200: z.object({ data: z.array(messageObject), next_cursor: z.string().nullable() }), ...failures },
  };
  app.get('/messages', { config: { needs }, schema: list }, async ({ query, caller }) => {
    const { to: recipient, workflow_id: runId, limit, cursor } = query;
    const page = { visible: visibleTo(caller), recipient, runId, cursor, limit: limit + 1 };
    const rows = await deps.agentMessages.list(page);
    const data = await Promise.all(rows.slice(0, limit).map((row) => toObject(deps, row)));
    return { data, next_cursor: rows.length > limit ? (data.at(-1)?.id ?? null) : null };
  });
};

async function toObject({ bodies }: ApiDeps, message: AgentMessage): Promise<z.input<typeof messageObject>> {
  const body = await bodies.get<{ readonly content: string }>(message.bodyRef);
  return {
    id: message.id,
    object: 'message',
    from: message.sender,
    to: message.recipient,
    content: body?.content ?? '',
    workflow_id: message.runId,
    created_at: toSeconds(message.createdAt),
    delivered_at: message.deliveredAt && toSeconds(message.deliveredAt),
  };
}
