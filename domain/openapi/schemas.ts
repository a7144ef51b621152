import { isObject, type Json, type OpenApiDocument } from './document.ts';

/** Deeper than anybody's schema, and shallower than the stack. */
const MAX_DEPTH = 100;
/** Values in the schemas of one tool. More would be too much for a model, and is work for the gateway. */
const MAX_VALUES = 20_000;

/**
 * Schemas of one tool, made independent of their document: what they refer to is kept once, under `$defs`. Written out at
 * each place, a schema that refers to itself would have no end.
 */
export class SelfContained {
  private readonly document: OpenApiDocument;
  /** The name of each reference's definition. */
  private readonly names = new Map<string, string>();
  private readonly defs = new Map<string, unknown>();
  private values = 0;

  constructor(document: OpenApiDocument) {
    this.document = document;
  }

  schema(value: unknown): Json {
    const schema = this.rewrite(value, 0);
    return isObject(schema) ? schema : {};
  }

  /** All that the schemas so far refer to; undefined if that is nothing. */
  definitions(): Json | undefined {
    // The map grows while it is read: definitions refer to more of them.
    for (const [ref, name] of this.names) this.defs.set(name, this.rewrite(this.document.at(ref), 0));
    return this.names.size === 0 ? undefined : Object.fromEntries(this.defs);
  }

  private rewrite(value: unknown, depth: number): unknown {
    if (depth > MAX_DEPTH) throw this.document.problem('its schemas are nested too deeply');
    if (++this.values > MAX_VALUES) throw this.document.problem('the schemas of one operation are too large');
    if (Array.isArray(value)) return value.map((item) => this.rewrite(item, depth + 1));
    if (!isObject(value)) return value;
    const entries = Object.entries(withoutDraft4(value));
    return Object.fromEntries(
      entries.map(([key, inner]) =>
        key === '$ref' && typeof inner === 'string'
          ? [key, `#/$defs/${this.nameOf(inner)}`]
          : [key, this.rewrite(inner, depth + 1)],
      ),
    );
  }

  private nameOf(ref: string): string {
    const known = this.names.get(ref);
    if (known !== undefined) return known;
    const last =
      ref
        .split('/')
        .at(-1)
        ?.replaceAll(/[^\w.-]/g, '_') ?? '';
    const taken = new Set(this.names.values());
    let name = last;
    for (let n = 2; taken.has(name); n++) name = `${last}_${n}`;
    this.names.set(ref, name);
    return name;
  }
}

/** OpenAPI 3.0 says `exclusiveMinimum: true` beside `minimum`; JSON schema has the number itself. */
function withoutDraft4(schema: Json): Json {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, ...rest } = schema;
  if (typeof exclusiveMinimum !== 'boolean' && typeof exclusiveMaximum !== 'boolean') return schema;
  return {
    ...rest,
    ...bound('minimum', 'exclusiveMinimum', minimum, exclusiveMinimum),
    ...bound('maximum', 'exclusiveMaximum', maximum, exclusiveMaximum),
  };
}

const bound = (inclusive: string, exclusive: string, limit: unknown, excludes: unknown): Json => ({
  ...(limit !== undefined && { [excludes === true ? exclusive : inclusive]: limit }),
  ...(typeof excludes === 'number' && { [exclusive]: excludes }),
});
