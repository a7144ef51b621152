import type { AddressPolicy } from '../activities/address-policy.ts';
import { schemaProblem } from '../activities/json-schema.ts';
import { urlProblem } from '../activities/url-problem.ts';
import type { AgentDefinition } from '../domain/agent.ts';
import type { Caller } from '../domain/caller.ts';
import { HoldfastError } from '../domain/errors.ts';
import { planRoute, type RoutingTable } from '../domain/route-plan.ts';

export interface AgentSurroundings {
  readonly table: RoutingTable;
  readonly addresses: AddressPolicy;
  /** Whose agent it is. */
  readonly caller: Caller;
}

/**
 * Finds out now what every run of the agent would stumble over. Throws `caller_model_not_found`, `policy_privacy_zone`, or
 * `caller_invalid_request` for a URL or a schema.
 */
export function requireUsableAgent(agent: AgentDefinition, { table, addresses, caller }: AgentSurroundings): void {
  if (agent.kind === 'remote') {
    requireUrl(agent.url, 'The URL', 'url', addresses);
    return;
  }
  planRoute(table, { model: agent.model, zone: caller.key?.privacyZone ?? undefined, requirements: [] });
  for (const { name, url, parameters } of agent.tools) {
    requireUrl(url, `The URL of the tool '${name}'`, 'tools', addresses);
    requireSchema(parameters, `The parameters of the tool '${name}'`, 'tools');
  }
  if (agent.outputSchema) requireSchema(agent.outputSchema, 'The schema', 'output_schema');
}

function requireUrl(url: string, what: string, param: string, addresses: AddressPolicy): void {
  const problem = urlProblem(url, addresses);
  if (problem === undefined) return;
  throw new HoldfastError('caller_invalid_request', `${what} cannot be used. ${problem}`, { param });
}

function requireSchema(schema: Readonly<Record<string, unknown>>, what: string, param: string): void {
  const problem = schemaProblem(schema);
  if (problem === undefined) return;
  throw new HoldfastError('caller_invalid_request', `${what} cannot be used: ${problem}`, { param });
}
