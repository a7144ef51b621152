import { firstRepeated } from '../lists.ts';
import type { ArgumentPlace, ToolMethod } from '../tool.ts';
import { arrayOf, isObject, type Json, type OpenApiDocument, objectOf, textOf } from './document.ts';
import { SelfContained } from './schemas.ts';

/** An operation's parameters and body as the arguments of one tool. */
export interface OperationArguments {
  /** JSON schema. */
  readonly parameters: Json;
  readonly places: Readonly<Record<string, ArgumentPlace>>;
}

interface Argument {
  readonly name: string;
  readonly place: ArgumentPlace;
  readonly schema: Json;
  readonly required: boolean;
}

/** The argument of a body that is no object of known properties. */
const WHOLE_BODY = 'body';

/**
 * What a model is asked for. The properties of a body become arguments beside the parameters; a body that has none, or
 * one of the same name as a parameter, is one argument. Throws `caller_invalid_request`.
 * @param label Of the operation, for messages.
 */
export function toArguments(
  document: OpenApiDocument,
  pathItem: Json,
  { method, operation, label }: { readonly method: ToolMethod; readonly operation: Json; readonly label: string },
): OperationArguments {
  const schemas = new SelfContained(document);
  const given = parametersOf(document, pathItem, operation).flatMap((parameter) =>
    toArgument(document, schemas, parameter, label),
  );
  // OpenAPI gives the body of a GET no meaning.
  const body = method === 'GET' ? [] : bodyArguments(document, schemas, { operation, label, given });
  const all = [...given, ...body];
  const twice = firstRepeated(all.map(({ name }) => name));
  if (twice !== undefined) throw document.problem(`${label} has two arguments named '${twice}'`);
  const required = all.filter((argument) => argument.required).map(({ name }) => name);
  const properties = Object.fromEntries(all.map(({ name, schema }) => [name, schema]));
  const $defs = schemas.definitions();
  return {
    parameters: {
      type: 'object',
      properties,
      ...(required.length > 0 && { required }),
      // More would go nowhere.
      additionalProperties: false,
      ...($defs && { $defs }),
    },
    places: Object.fromEntries(all.map(({ name, place }) => [name, place])),
  };
}

/** Those of the path and of the operation, which win. */
function parametersOf(document: OpenApiDocument, pathItem: Json, operation: Json): readonly Json[] {
  const all = [...arrayOf(pathItem.parameters), ...arrayOf(operation.parameters)].map((one) => document.follow(one));
  return [...new Map(all.map((parameter) => [`${parameter.in} ${parameter.name}`, parameter])).values()];
}

/** What OpenAPI says to ignore among header parameters: they are described elsewhere. */
const IGNORED_HEADERS = /^(accept|content-type|authorization)$/i;

function toArgument(
  document: OpenApiDocument,
  schemas: SelfContained,
  parameter: Json,
  label: string,
): readonly Argument[] {
  const { in: place, name, required } = parameter;
  if (typeof name !== 'string') throw document.problem(`${label} has a parameter without a name`);
  if (place === 'header' && IGNORED_HEADERS.test(name)) return [];
  if (place !== 'path' && place !== 'query' && place !== 'header') {
    if (required !== true) return [];
    throw document.problem(`${label} needs '${name}' in '${String(place)}', where no argument can be sent`);
  }
  const [content] = Object.values(objectOf(parameter.content)).filter(isObject);
  const description = textOf(parameter.description);
  const schema = { ...(description && { description }), ...schemas.schema(parameter.schema ?? content?.schema) };
  return [{ name, place, schema, required: place === 'path' || required === true }];
}

const JSON_TYPE = /^(application\/json|\*\/\*)\s*(;|$)/i;

function bodyArguments(
  document: OpenApiDocument,
  schemas: SelfContained,
  {
    operation,
    label,
    given,
  }: { readonly operation: Json; readonly label: string; readonly given: readonly Argument[] },
): readonly Argument[] {
  if (operation.requestBody === undefined) return [];
  const body = document.follow(operation.requestBody);
  const json = Object.entries(objectOf(body.content)).find(([type]) => JSON_TYPE.test(type))?.[1];
  if (!isObject(json)) throw document.problem(`${label} takes no body of type application/json`);
  const schema = document.follow(json.schema);
  const names = propertiesOf(schema);
  if (names && firstRepeated([...given.map(({ name }) => name), ...names]) === undefined) {
    const properties = objectOf(schema.properties);
    const needed = new Set(arrayOf(schema.required));
    return names.map((name) => ({
      name,
      place: 'body',
      schema: schemas.schema(properties[name]),
      required: needed.has(name),
    }));
  }
  const required = body.required === true;
  return [{ name: WHOLE_BODY, place: 'whole_body', schema: schemas.schema(json.schema), required }];
}

/** What says more about an object than its properties do, and would be lost with it. */
const COMPOSED = ['allOf', 'anyOf', 'oneOf', 'not', 'if'];

/** The names of an object's properties, if they are all there is to it. */
function propertiesOf(schema: Json): readonly string[] | undefined {
  const names = Object.keys(objectOf(schema.properties));
  if (names.length === 0 || isObject(schema.additionalProperties)) return undefined;
  return COMPOSED.some((keyword) => keyword in schema) ? undefined : names;
}
