import { Ajv, type Options, type ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { LRUCache } from 'lru-cache';
import { timedPattern } from './timed-patterns.ts';

type Schema = Readonly<Record<string, unknown>>;

const OPTIONS: Options = {
  // Schemas are made for models; what a validator does not know in them does not matter.
  strict: false,
  validateFormats: false,
  logger: false,
  code: { regExp: Object.assign(timedPattern, { code: 'timedPattern' }) },
};

const compiled = new LRUCache<string, ValidateFunction>({ max: 500 });

/** Why nothing can be checked against a schema; undefined if something can. */
export function schemaProblem(schema: Schema): string | undefined {
  try {
    compile(schema);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * What is wrong with a value by a schema; undefined if nothing is.
 * @param name Of the value, for the message.
 */
export function valueProblem(schema: Schema, value: unknown, name: string): string | undefined {
  try {
    const validate = compile(schema);
    if (validate(value)) return undefined;
    const [first] = validate.errors ?? [];
    return `${name}${first?.instancePath ?? ''} ${first?.message ?? 'is not valid'}`;
  } catch (error) {
    return `${name} cannot be checked: ${(error as Error).message}`;
  }
}

function compile(schema: Schema): ValidateFunction {
  const key = JSON.stringify(schema);
  const known = compiled.get(key);
  if (known) return known;
  // It would be checked in a promise that nobody waits for.
  if (schema.$async !== undefined) throw new Error('$async is not supported');
  const { $schema, ...plain } = schema;
  // One for each schema: it remembers what it compiled, and the ids that it met.
  const ajv = /draft-0[467]/.test(String($schema)) ? new Ajv(OPTIONS) : new Ajv2020(OPTIONS);
  const validate = ajv.compile(plain);
  compiled.set(key, validate);
  return validate;
}
