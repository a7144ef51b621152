import { z } from 'zod';
import { publicAddresses } from '../../activities/address-policy.ts';
import { agentBody, capability, toAgentDefinition } from '../../domain/agent-body.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { visibleTo } from '../auth/caller.ts';
import { agentObject, toAgentObject } from '../schemas/agent.ts';
import { errorEnvelope, limit } from '../schemas/common.ts';
import { requireUsableAgent } from '../usable-agent.ts';
import type { Routes } from './route.ts';

const agentId = z.string().regex(/^[\w-]+$/, 'must be the id of an agent');
const MAX_LOAD = 1_000_000;

/** Agents: those that the gateway runs, and others' that it asks. What the master key registers is for everybody. */
export const agents: Routes = async (app, { agents, routing, config }) => {
  const addresses = publicAddresses(config.gateway.agents.allowed_private_hosts);
  const needs = 'models:call';
  const tags = ['agents'];
  const byId = { params: z.object({ id: agentId }) };
  const failures = { '4xx': errorEnvelope, '5xx': errorEnvelope };

  const register = {
    summary: 'Register an agent, or replace the one of that name',
    tags,
    body: agentBody,
    response: { 200: agentObject, 201: agentObject, ...failures },
  };
  app.post('/agents/register', { config: { needs }, schema: register }, async ({ body, caller }, reply) => {
    const definition = toAgentDefinition(body);
    requireUsableAgent(definition, { table: routing.table, addresses, caller });
    const { agent, isNew } = await agents.register({
      owner: caller.owner,
      project: caller.project,
      name: body.name,
      description: body.description,
      capabilities: body.capabilities,
      definition,
      heartbeatSeconds: (body.kind === 'remote' ? body.heartbeat_seconds : undefined) ?? null,
    });
    return reply.status(isNew ? 201 : 200).send(toAgentObject(agent));
  });

  const remove = { summary: 'Remove an agent', tags, ...byId };
  app.delete('/agents/:id', { config: { needs }, schema: remove }, async ({ params, caller }, reply) => {
    if (!(await agents.remove(params.id, visibleTo(caller)))) throw notFound(params.id);
    return reply.status(204).send();
  });

  const heartbeat = {
    summary: 'Say that an agent is there, and how much it has to do',
    tags,
    ...byId,
    body: z.strictObject({ load: z.int().min(0).max(MAX_LOAD).optional() }).nullish(),
    response: { 200: agentObject, ...failures },
  };
  app.post('/agents/:id/heartbeat', { config: { needs }, schema: heartbeat }, async ({ params, body, caller }) => {
    const agent = await agents.heartbeat(params.id, visibleTo(caller), { load: body?.load });
    if (!agent) throw notFound(params.id);
    return toAgentObject(agent);
  });

  const list = {
    summary: 'Agents, newest first',
    tags,
    querystring: z.object({
      limit,
      cursor: agentId.optional(),
      capability: capability.optional(),
      kind: z.enum(['prompt', 'remote']).optional(),
    }),
    response: { 200: z.object({ data: z.array(agentObject), next_cursor: z.string().nullable() }), ...failures },
  };
  app.get('/agents', { config: { needs }, schema: list }, async ({ query, caller }) => {
    const found = await agents.list({ ...query, visible: visibleTo(caller), limit: query.limit + 1 });
    const data = found.slice(0, query.limit).map(toAgentObject);
    return { data, next_cursor: found.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = { summary: 'One agent', tags, ...byId, response: { 200: agentObject, ...failures } };
  app.get('/agents/:id', { config: { needs }, schema: read }, async ({ params, caller }) => {
    const agent = await agents.get(params.id, visibleTo(caller));
    if (!agent) throw notFound(params.id);
    return toAgentObject(agent);
  });

  const can = {
    summary: 'What agents can do, and how many of them',
    tags,
    response: {
      200: z.object({ data: z.array(z.object({ capability: z.string(), agents: z.int(), healthy: z.int() })) }),
    },
  };
  app.get('/capabilities', { config: { needs }, schema: can }, async ({ caller }) => ({
    data: [...(await agents.capabilities(visibleTo(caller)))],
  }));
};

const notFound = (id: string) => new HoldfastError('caller_not_found', `There is no agent '${id}'.`);
