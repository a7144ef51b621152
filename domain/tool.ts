import type { ApprovalTerms } from './approval.ts';

/** Where an argument goes in the request of an HTTP tool. `whole_body`: it is the body, and not a field of it. */
export const ARGUMENT_PLACES = ['path', 'query', 'header', 'body', 'whole_body'] as const;

export type ArgumentPlace = (typeof ARGUMENT_PLACES)[number];

export const TOOL_METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

export type ToolMethod = (typeof TOOL_METHODS)[number];

/** A tool that is an HTTP endpoint: a model names the arguments, the gateway makes the request. */
export interface HttpTool {
  readonly type: 'http';
  /** As models call it. */
  readonly name: string;
  readonly description?: string;
  /** JSON schema of the arguments: an object. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly method: ToolMethod;
  /** `{name}` stands for an argument of that name. */
  readonly url: string;
  /** Of arguments that go elsewhere than by default: into the path where the URL names them, else by method. */
  readonly places?: Readonly<Record<string, ArgumentPlace>>;
  /** Sent with each request; usually credentials. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Somebody has to agree to each call. */
  readonly approval?: ApprovalTerms;
  /** Milliseconds one request may take. */
  readonly timeoutMs: number;
  /** Requests of one call, the first included. */
  readonly maxAttempts: number;
}
