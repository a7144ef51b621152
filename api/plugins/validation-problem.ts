import type { FastifySchemaValidationError } from 'fastify/types/schema.js';
import type { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';

/** A zod issue as the validator hands it on. */
interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
  /** Issues of each branch of a union. */
  readonly errors?: readonly (readonly Issue[])[];
}

/** What `schema` makes of a value that the framework does not validate. Throws `caller_invalid_request`. */
export function validated<T>(schema: z.ZodType<T>, value: unknown): T {
  const { data, error } = schema.safeParse(value);
  if (!error) return data;
  const [issue] = error.issues;
  const { path = [], message = '', ...params } = issue ?? {};
  const problem = { instancePath: `/${path.join('/')}`, message, params } as unknown as FastifySchemaValidationError;
  throw new HoldfastError('caller_invalid_request', problemOf(problem), { param: paramOf(problem) });
}

/** The field at fault in OpenAI's notation, e.g. `messages[0].content`. */
export const paramOf = (problem: FastifySchemaValidationError): string | undefined => toParam(issueOf(problem).path);

/** What is wrong with it, in a sentence. */
export function problemOf(problem: FastifySchemaValidationError): string {
  const { path, message } = issueOf(problem);
  const param = toParam(path);
  if (!param) return `The request is not valid: ${message}.`;
  if (message.endsWith('received undefined')) return `Missing required parameter: '${param}'.`;
  return `Invalid value for '${param}': ${message}.`;
}

function issueOf({ instancePath, message = '', params }: FastifySchemaValidationError): Issue {
  const path = instancePath.split('/').filter(Boolean);
  return deepest({ path, message, ...(params as Partial<Issue>) });
}

/** Of a union, the branch that matched furthest is the one the caller meant. */
function deepest(issue: Issue): Issue {
  const branches = (issue.errors ?? []).flatMap(([first]) => (first ? [deepest(first)] : []));
  const [best] = branches.sort((a, b) => b.path.length - a.path.length);
  const inner = best ? { ...best, path: [...issue.path, ...best.path] } : issue;
  return inner.keys?.[0] !== undefined ? { ...inner, path: [...inner.path, inner.keys[0]] } : inner;
}

const toParam = (path: readonly PropertyKey[]): string =>
  path.map((key, i) => (/^\d+$/.test(String(key)) ? `[${String(key)}]` : `${i > 0 ? '.' : ''}${String(key)}`)).join('');
