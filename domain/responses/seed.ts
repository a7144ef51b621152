import type { ResponseBody } from './body.ts';

/** Everything of a response that is known when it is accepted; all its events and its object follow from it. */
export interface ResponseSeed {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly createdAt: number;
  /** The model as the caller named it. */
  readonly model: string;
  readonly background: boolean;
  /** Holds the caller's instructions, tools and metadata: it is as private as the request. */
  readonly echo: RequestEcho;
}

export interface ResponseIdentity {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly createdAt: number;
  readonly model: string;
}

export const toResponseSeed = (identity: ResponseIdentity, body: ResponseBody): ResponseSeed => ({
  ...identity,
  background: body.background ?? false,
  echo: echoOf(body),
});

export type RequestEcho = ReturnType<typeof echoOf>;

/** The request's parameters as OpenAI repeats them; null is left to the provider. */
const echoOf = (body: ResponseBody) => ({
  instructions: body.instructions ?? null,
  max_output_tokens: body.max_output_tokens ?? null,
  max_tool_calls: body.max_tool_calls ?? null,
  metadata: body.metadata ?? {},
  parallel_tool_calls: body.parallel_tool_calls ?? true,
  previous_response_id: body.previous_response_id ?? null,
  prompt_cache_key: body.prompt_cache_key ?? null,
  prompt_cache_retention: body.prompt_cache_retention ?? null,
  reasoning: {
    effort: body.reasoning?.effort ?? null,
    summary: body.reasoning?.summary ?? body.reasoning?.generate_summary ?? null,
  },
  safety_identifier: body.safety_identifier ?? null,
  service_tier: body.service_tier ?? 'auto',
  store: body.store ?? true,
  temperature: body.temperature ?? null,
  text: {
    format: body.text?.format ?? { type: 'text' as const },
    ...(body.text?.verbosity && { verbosity: body.text.verbosity }),
  },
  tool_choice: body.tool_choice ?? 'auto',
  tools: (body.tools ?? []).map((tool) =>
    tool.type === 'function' ? { ...tool, parameters: tool.parameters ?? null, strict: tool.strict ?? null } : tool,
  ),
  top_logprobs: body.top_logprobs ?? 0,
  top_p: body.top_p ?? null,
  truncation: body.truncation ?? 'disabled',
  ...(body.user !== undefined && { user: body.user }),
});
