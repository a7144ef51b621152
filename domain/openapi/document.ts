import { HoldfastError } from '../errors.ts';

/** An object of a document that somebody else wrote: nothing in it is sure. */
export type Json = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The value as an object, or an empty one. */
export const objectOf = (value: unknown): Json => (isObject(value) ? value : {});

export const arrayOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

export const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value ? value : undefined);

/** What references may lead to: places of the document itself. */
export class OpenApiDocument {
  readonly root: Json;
  private readonly param: string;

  /** @param param The request's field that holds the document. */
  constructor(root: Json, param: string) {
    this.root = root;
    this.param = param;
    if (!/^3\.\d/.test(String(root.openapi))) throw this.problem('it is not an OpenAPI 3 document');
  }

  /** The object that `value` is or refers to, over however many references. */
  follow(value: unknown): Json {
    const seen = new Set<string>();
    let found = value;
    while (isObject(found) && typeof found.$ref === 'string') {
      if (seen.has(found.$ref)) throw this.problem(`'${found.$ref}' refers to itself`);
      seen.add(found.$ref);
      found = this.at(found.$ref);
    }
    return objectOf(found);
  }

  /** What a reference such as `#/components/schemas/Pet` leads to. */
  at(ref: string): unknown {
    if (!ref.startsWith('#')) throw this.problem(`'${ref}' leads out of it; it has to hold all that it refers to`);
    return ref
      .split('/')
      .slice(1)
      .reduce<unknown>((value, segment) => {
        const key = unescaped(segment);
        if (typeof value === 'object' && value !== null && Object.hasOwn(value, key)) return (value as Json)[key];
        throw this.problem(`'${ref}' leads nowhere`);
      }, this.root);
  }

  problem(what: string): HoldfastError {
    const message = `The OpenAPI document cannot be used: ${what}.`;
    return new HoldfastError('caller_invalid_request', message, { param: this.param });
  }
}

/** A segment of a JSON pointer in a URL's fragment (RFC 6901, section 6). */
function unescaped(segment: string): string {
  const text = segment.replaceAll('~1', '/').replaceAll('~0', '~');
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
