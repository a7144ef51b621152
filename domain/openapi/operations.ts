import type { HttpTool, ToolMethod } from '../tool.ts';
import { toArguments } from './arguments.ts';
import { arrayOf, type Json, OpenApiDocument, objectOf, textOf } from './document.ts';

/** An operation of an OpenAPI document as far as it describes a tool. */
export type Operation = Pick<HttpTool, 'name' | 'description' | 'parameters' | 'method' | 'url' | 'places'>;

export interface OperationsWanted {
  /** `operationId`s; undefined for all. */
  readonly only: readonly string[] | undefined;
  /** Instead of the document's first server. */
  readonly baseUrl: string | undefined;
  /** Of them, at most. */
  readonly max: number;
  /** The request's field that holds the document, without `.spec`. */
  readonly param: string;
}

const METHODS = {
  get: 'GET',
  post: 'POST',
  put: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
} as const satisfies Record<string, ToolMethod>;

/** The operations of an OpenAPI 3 document. Throws `caller_invalid_request` for what no tool can be made of. */
export function toOperations(spec: Json, { only, baseUrl, max, param }: OperationsWanted): readonly Operation[] {
  const document = new OpenApiDocument(spec, `${param}.spec`);
  const found = Object.entries(objectOf(spec.paths)).flatMap(([path, value]) => {
    const pathItem = document.follow(value);
    return Object.entries(METHODS)
      .filter(([verb]) => verb in pathItem)
      .map(([verb, method]) => ({ path, pathItem, method, operation: document.follow(pathItem[verb]) }));
  });
  const ids = new Set(found.map(({ operation }) => operation.operationId));
  const missing = only?.find((id) => !ids.has(id));
  if (missing !== undefined) throw document.problem(`it has no operation '${missing}'`);
  const wanted = found.filter(({ operation }) => !only || only.includes(String(operation.operationId)));
  if (wanted.length === 0) throw document.problem('it has no operations');
  if (wanted.length > max)
    throw document.problem(`it has ${wanted.length} operations; 'operations' chooses up to ${max}`);
  return wanted.map((one) => toOperation(document, one, baseUrl));
}

interface Found {
  readonly path: string;
  readonly pathItem: Json;
  readonly method: ToolMethod;
  readonly operation: Json;
}

function toOperation(document: OpenApiDocument, found: Found, baseUrl: string | undefined): Operation {
  const { path, pathItem, method, operation } = found;
  const label = textOf(operation.operationId) ?? `${method} ${path}`;
  const description = [textOf(operation.summary), textOf(operation.description)].filter(Boolean).join('\n\n');
  const base = baseUrl ?? serverOf(document, operation.servers ?? pathItem.servers ?? document.root.servers);
  return {
    name: toName(label),
    ...(description && { description }),
    ...toArguments(document, pathItem, { method, operation, label: `'${label}'` }),
    method,
    url: base.replace(/\/+$/, '') + path,
  };
}

const MAX_NAME_CHARACTERS = 64;

/** Models take fewer characters in a tool's name than OpenAPI does in an id. */
const toName = (id: string): string => id.replaceAll(/[^a-zA-Z0-9_-]+/g, '_').slice(0, MAX_NAME_CHARACTERS);

/** The first server's URL, with the defaults of its variables. */
function serverOf(document: OpenApiDocument, servers: unknown): string {
  const first = objectOf(arrayOf(servers)[0]);
  const variables = objectOf(first.variables);
  const url = textOf(first.url)?.replace(/\{([^{}]+)\}/g, (whole, name: string) => {
    const fallback = objectOf(Object.hasOwn(variables, name) ? variables[name] : undefined).default;
    return fallback === undefined ? whole : String(fallback);
  });
  if (url && /^https?:\/\//i.test(url)) return url;
  throw document.problem("its first server has no whole URL; 'base_url' can give one");
}
