import { z } from 'zod';
import type { AgentDefinition, PromptAgent, RemoteAgent } from './agent.ts';
import { modelRequestSchema } from './chat.ts';
import { modelName } from './chat-body.ts';
import { HoldfastError } from './errors.ts';
import { headersBody, lowerCased } from './http-headers.ts';
import { firstRepeated } from './lists.ts';
import { fromDollars } from './money.ts';
import { jsonSchema, MAX_TOOLS, toHttpTools, toolBody } from './tool-body.ts';

/** Text that is stored as it is: Postgres keeps no NUL. */
const storable = (maxCharacters: number) =>
  z
    .string()
    .max(maxCharacters)
    .refine((text) => !text.includes('\0'), 'must not contain NUL');

const MAX_INSTRUCTIONS_CHARACTERS = 200_000;

/** Something an agent can do, for steps that name none. */
export const capability = storable(100).min(1);

const about = {
  name: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/, 'must be 1 to 64 letters, digits, _ and -'),
  description: storable(2_000).default(''),
  capabilities: z.array(capability).max(50).default([]),
};

const parameters = z.strictObject(
  modelRequestSchema.pick({
    temperature: true,
    top_p: true,
    max_tokens: true,
    max_completion_tokens: true,
    stop: true,
    seed: true,
    reasoning_effort: true,
  }).shape,
);

const promptAgent = z.strictObject({
  ...about,
  kind: z.literal('prompt'),
  model: modelName,
  instructions: z.string().max(MAX_INSTRUCTIONS_CHARACTERS),
  tools: z.array(toolBody).max(MAX_TOOLS).default([]),
  output_schema: jsonSchema.optional(),
  parameters: parameters.default({}),
  limits: z
    .strictObject({
      /** Model calls of one step. */
      max_turns: z.int().min(1).max(200).default(20),
      /** Dollars; somebody has to agree to a call that could cost more. */
      approve_over_usd: z.number().min(0).max(1_000_000).optional(),
    })
    .prefault({}),
});

const remoteAgent = z.strictObject({
  ...about,
  kind: z.literal('remote'),
  url: z.url().max(2_048),
  headers: headersBody.default({}),
  /** Seconds one request may take. */
  timeout: z.number().min(0.1).max(3_600).default(60),
  /** Requests of one step, the first included. */
  max_attempts: z.int().min(1).max(10).default(3),
  /** After so many seconds without a heartbeat it counts as unhealthy. Without it no heartbeat is expected. */
  heartbeat_seconds: z.int().min(5).max(3_600).optional(),
});

/** How callers describe an agent. */
export const agentBody = z.discriminatedUnion('kind', [promptAgent, remoteAgent]);

export type AgentBody = z.output<typeof agentBody>;

/** What an agent does, of what a caller says about it. Throws `caller_invalid_request`. */
export const toAgentDefinition = (body: AgentBody): AgentDefinition =>
  body.kind === 'prompt' ? toPromptAgent(body) : toRemoteAgent(body);

function toPromptAgent(body: z.output<typeof promptAgent>): PromptAgent {
  const { model, instructions, output_schema, parameters, limits } = body;
  const tools = body.tools.flatMap((tool, i) => toHttpTools(tool, `tools[${i}]`));
  requireFew(tools.length);
  requireUnique(tools.map(({ name }) => name));
  return {
    kind: 'prompt',
    model,
    instructions,
    tools,
    ...(output_schema && { outputSchema: output_schema }),
    parameters,
    limits: {
      maxTurns: limits.max_turns,
      ...(limits.approve_over_usd !== undefined && { approveOverNanos: fromDollars(limits.approve_over_usd) }),
    },
  };
}

const toRemoteAgent = ({ url, headers, timeout, max_attempts }: z.output<typeof remoteAgent>): RemoteAgent => ({
  kind: 'remote',
  url,
  headers: lowerCased(headers),
  timeoutMs: Math.round(timeout * 1000),
  maxAttempts: max_attempts,
});

function requireFew(count: number): void {
  if (count <= MAX_TOOLS) return;
  const message = `An agent has at most ${MAX_TOOLS} tools, not ${count}; 'operations' chooses among those of a document.`;
  throw new HoldfastError('caller_invalid_request', message, { param: 'tools' });
}

/** Models call tools by their names. */
function requireUnique(names: readonly string[]): void {
  const twice = firstRepeated(names);
  if (twice === undefined) return;
  const message = `An agent's tools need names of their own: two are called '${twice}'.`;
  throw new HoldfastError('caller_invalid_request', message, { param: 'tools' });
}
