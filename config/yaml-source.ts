import { readFileSync } from 'node:fs';
import { type Document, isMap, isScalar, LineCounter, type Node, parseDocument, visit } from 'yaml';
import type { z } from 'zod';

/** A mistake in a config file, with the place to look at. The message is all a user needs to fix it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const VARIABLE = /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g;

/** Reads a YAML file, expands `${VAR}` and `${VAR:-default}` in its values, and checks it against `schema`. */
export function loadYaml<Schema extends z.ZodType>(
  file: string,
  schema: Schema,
  env: NodeJS.ProcessEnv,
): z.output<Schema> {
  const lines = new LineCounter();
  const { text, variables } = takeVariables(read(file));
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}`;

  const syntax = document.errors[0];
  if (syntax) throw new ConfigError(`${at(syntax.pos[0])}: ${syntax.message}`);
  expandVariables(document, variables, env, at);

  const parsed = schema.safeParse(document.toJS() ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const path = issue.code === 'unrecognized_keys' ? [...issue.path, ...issue.keys.slice(0, 1)] : issue.path;
    const name = path.join('.') || '(top level)';
    return `${at(offsetOf(document, path))}: ${name}: ${issue.message}`;
  });
  throw new ConfigError(problems.join('\n'));
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(`${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'}).`);
  }
}

interface Variable {
  readonly name: string;
  readonly fallback: string | undefined;
}

/** `${` cannot stand unquoted inside `{ … }` in YAML, so variables are parsed as plain words. Lines stay what they are. */
function takeVariables(source: string): { readonly text: string; readonly variables: readonly Variable[] } {
  const variables: Variable[] = [];
  const text = source.replace(VARIABLE, (_match, name: string, fallback: string | undefined) => {
    variables.push({ name, fallback });
    return `__variable_${variables.length - 1}__`;
  });
  return { text, variables };
}

function expandVariables(
  document: Document,
  variables: readonly Variable[],
  env: NodeJS.ProcessEnv,
  at: (offset: number) => string,
): void {
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value !== 'string' || !node.value.includes('__variable_')) return;
      const text = node.value.replace(/__variable_(\d+)__/g, (_match, index: string) => {
        const { name, fallback } = variables[Number(index)] as Variable;
        const value = env[name] || fallback;
        if (value !== undefined) return value;
        throw new ConfigError(
          `${at(node.range?.[0] ?? 0)}: the environment variable ${name} is not set. ` +
            `Set it, or write \${${name}:-} to allow it to be empty.`,
        );
      });
      const quoted = node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE';
      // An unquoted ${PORT} is a number when its value is one, as if it had been written in the file.
      node.value = !quoted && /^(-?\d+(\.\d+)?|true|false)$/.test(text) ? JSON.parse(text) : text;
    },
  });
}

/** Where `path` stands in the file: its key if it exists, else the nearest enclosing node. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length > 0; length -= 1) {
    const parent = document.getIn(path.slice(0, length - 1), true);
    const last = path[length - 1];
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isScalar(item.key) && item.key.value === last);
      const offset = (pair?.key as Node | undefined)?.range?.[0];
      if (offset !== undefined) return offset;
    }
    const node = document.getIn(path.slice(0, length), true) as Node | undefined;
    if (node?.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}
