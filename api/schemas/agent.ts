import { z } from 'zod';
import type { AgentDefinition } from '../../domain/agent.ts';
import { toDollars } from '../../domain/money.ts';
import { toSeconds } from '../../domain/time.ts';
import { TOOL_METHODS } from '../../domain/tool.ts';
import type { Agent } from '../../storage/postgres/agents.ts';

/** Seconds since the epoch. */
const seconds = z.int();

/** A registered agent as callers see it: of headers and URLs nothing that may be a credential. */
export const agentObject = z.object({
  id: z.string(),
  object: z.literal('agent'),
  name: z.string(),
  kind: z.enum(['prompt', 'remote']),
  description: z.string(),
  capabilities: z.array(z.string()),
  health: z.enum(['healthy', 'unhealthy']),
  /** Tasks it said it is busy with, and steps that it does here. */
  load: z.int(),
  model: z.string().nullable(),
  instructions: z.string().optional(),
  tools: z.array(
    z.object({
      name: z.string(),
      description: z.string().nullable(),
      method: z.enum(TOOL_METHODS),
      /** Without its query. */
      url: z.string(),
      requires_approval: z.boolean(),
    }),
  ),
  /** Without its query. */
  url: z.string().optional(),
  header_names: z.array(z.string()),
  limits: z.object({ max_turns: z.int(), approve_over_usd: z.number().nullable() }).nullable(),
  heartbeat_seconds: z.int().nullable(),
  last_heartbeat_at: seconds.nullable(),
  created_at: seconds,
  updated_at: seconds,
});

type AgentObject = z.infer<typeof agentObject>;

export const toAgentObject = (agent: Agent): AgentObject => ({
  id: agent.id,
  object: 'agent',
  name: agent.name,
  kind: agent.definition.kind,
  description: agent.description,
  capabilities: [...agent.capabilities],
  health: agent.health,
  load: agent.load,
  ...shownDefinition(agent.definition),
  heartbeat_seconds: agent.heartbeatSeconds,
  last_heartbeat_at: agent.heartbeatAt && toSeconds(agent.heartbeatAt),
  created_at: toSeconds(agent.createdAt),
  updated_at: toSeconds(agent.updatedAt),
});

type ShownDefinition = Pick<AgentObject, 'model' | 'instructions' | 'tools' | 'url' | 'header_names' | 'limits'>;

function shownDefinition(definition: AgentDefinition): ShownDefinition {
  if (definition.kind === 'remote') {
    const { url, headers } = definition;
    return { model: null, tools: [], url: withoutQuery(url), header_names: Object.keys(headers), limits: null };
  }
  const { model, instructions, tools, limits } = definition;
  const { maxTurns, approveOverNanos } = limits;
  return {
    model,
    instructions,
    tools: tools.map(({ name, description, method, url, approval }) => ({
      name,
      description: description ?? null,
      method,
      url: withoutQuery(url),
      requires_approval: approval !== undefined,
    })),
    header_names: [],
    limits: {
      max_turns: maxTurns,
      approve_over_usd: approveOverNanos === undefined ? null : toDollars(approveOverNanos),
    },
  };
}

/** As text: parsed as a URL, the arguments of its path would be escaped. */
const withoutQuery = (url: string): string => url.split(/[?#]/)[0] ?? '';
