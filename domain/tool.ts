/** Where an argument goes in the request of an HTTP tool. */
export type ArgumentPlace = 'path' | 'query' | 'header' | 'body';

/** A tool that is an HTTP endpoint: a model names the arguments, the gateway makes the request. */
export interface HttpTool {
  readonly type: 'http';
  /** As models call it. */
  readonly name: string;
  readonly description?: string;
  /** JSON schema of the arguments: an object. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** `{name}` stands for an argument of that name. */
  readonly url: string;
  /** Of arguments that go elsewhere than by default: into the path where the URL names them, else by method. */
  readonly places?: Readonly<Record<string, ArgumentPlace>>;
  /** Sent with each request; usually credentials. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether somebody has to agree to each call. */
  readonly requiresApproval: boolean;
  /** Milliseconds one request may take. */
  readonly timeoutMs: number;
  /** Requests of one call, the first included. */
  readonly maxAttempts: number;
}
