import type { NanoDollars } from './money.ts';
import type { HttpTool } from './tool.ts';

/** Run by the gateway itself: a model with instructions and tools, called until it has an answer. */
export interface PromptAgent {
  readonly kind: 'prompt';
  /** Alias, `provider/model` or model id. */
  readonly model: string;
  readonly instructions: string;
  readonly tools: readonly HttpTool[];
  /** JSON schema its answer has to follow. */
  readonly outputSchema?: Readonly<Record<string, unknown>>;
  /** Fields of a chat completion such as `temperature`. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly limits: AgentLimits;
}

export interface AgentLimits {
  /** Model calls of one step. */
  readonly maxTurns: number;
  /** Somebody has to agree to a call that could cost more. */
  readonly approveOverNanos?: NanoDollars;
}

/** Somebody else's: asked over HTTP. */
export interface RemoteAgent {
  readonly kind: 'remote';
  readonly url: string;
  /** Sent with each request; usually credentials. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds one request may take. */
  readonly timeoutMs: number;
  /** Requests of one step, the first included. */
  readonly maxAttempts: number;
}

export type AgentDefinition = PromptAgent | RemoteAgent;

/** Which agent does a step: a certain one, or the one that can and has least to do. */
export type AgentChoice = { readonly agent: string } | { readonly capability: string };

/** `unhealthy`: its last heartbeat is too long ago. */
export type AgentHealth = 'healthy' | 'unhealthy';
