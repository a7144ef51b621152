import type { z } from 'zod';
import { HoldfastError } from './errors.ts';

/** A zod issue as the validator hands it on. */
export interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
  /** Issues of each branch of a union. */
  readonly errors?: readonly (readonly Issue[])[];
}

export interface Problem {
  /** The field at fault in OpenAI's notation, e.g. `messages[0].content`; '' for the request as a whole. */
  readonly param: string;
  /** What is wrong with it, in a sentence. */
  readonly message: string;
}

/**
 * What `schema` makes of a value that the framework does not validate. Throws `caller_invalid_request`.
 * @param within The field that holds the value, where the request is more than that.
 */
export function validated<T>(schema: z.ZodType<T>, value: unknown, ...within: readonly string[]): T {
  const { data, error } = schema.safeParse(value);
  if (!error) return data;
  const [issue] = error.issues as unknown as readonly Issue[];
  const { param, message } = toProblem({ message: '', ...issue, path: [...within, ...(issue?.path ?? [])] });
  throw new HoldfastError('caller_invalid_request', message, { param: param || undefined });
}

/** What zod found, as a caller is told. */
export function toProblem(issue: Issue): Problem {
  const { path, message } = deepest(issue);
  const param = toParam(path);
  if (!param) return { param, message: `The request is not valid: ${message}.` };
  if (message.endsWith('received undefined')) return { param, message: `Missing required parameter: '${param}'.` };
  return { param, message: `Invalid value for '${param}': ${message}.` };
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
