const MAX_DEPTH = 8;
/** However much a schema asks for. */
const MAX_LENGTH = 100;

/** The smallest value that a JSON schema describes: required properties only, first of every choice. */
export function sampleFromSchema(schema: unknown, depth = 0): unknown {
  if (typeof schema !== 'object' || schema === null || depth > MAX_DEPTH) return null;
  const node = schema as Record<string, unknown>;
  if ('const' in node) return node.const;
  if ('default' in node) return node.default;
  if (Array.isArray(node.enum)) return node.enum[0];
  const choices = node.anyOf ?? node.oneOf ?? node.allOf;
  if (Array.isArray(choices)) return sampleFromSchema(choices[0], depth + 1);
  const type = Array.isArray(node.type) ? node.type[0] : node.type;
  switch (type) {
    case 'string':
      return 'demo'.padEnd(atMost(node.minLength, 0), '-');
    case 'integer':
    case 'number':
      return Number(node.minimum ?? 1);
    case 'boolean':
      return true;
    case 'null':
      return null;
    case 'array':
      return Array.from({ length: atMost(node.minItems, 1) }, () => sampleFromSchema(node.items ?? {}, depth + 1));
    default:
      return sampleObject(node, depth);
  }
}

function sampleObject(node: Record<string, unknown>, depth: number): Record<string, unknown> {
  const properties = (node.properties ?? {}) as Record<string, unknown>;
  const required = Array.isArray(node.required) ? new Set(node.required) : new Set(Object.keys(properties));
  const wanted = Object.entries(properties).filter(([name]) => required.has(name));
  return Object.fromEntries(wanted.map(([name, property]) => [name, sampleFromSchema(property, depth + 1)]));
}

const atMost = (value: unknown, fallback: number): number =>
  Math.min(MAX_LENGTH, typeof value === 'number' && value >= 0 ? value : fallback);
