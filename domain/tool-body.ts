import { z } from 'zod';
import { DEFAULT_APPROVAL_TERMS } from './approval.ts';
import { approvalTermsBody, toApprovalTerms } from './approval-body.ts';
import { HoldfastError } from './errors.ts';
import { headersBody, isHeaderName, lowerCased } from './http-headers.ts';
import { toOperations } from './openapi/operations.ts';
import { ARGUMENT_PLACES, type HttpTool, TOOL_METHODS } from './tool.ts';
import { argumentsIn, TOOL_URL } from './tool-url.ts';

/** Of one agent: as many as OpenAI's API takes with one request. */
export const MAX_TOOLS = 128;

const MAX_SCHEMA_CHARACTERS = 65_536;

/** Descriptions are read by models with every call; OpenAI's API takes no longer ones. */
const MAX_DESCRIPTION_CHARACTERS = 1_024;

/** A JSON schema, no larger than what is worth showing to a model. */
export const jsonSchema = z
  .record(z.string(), z.unknown())
  .refine(isSmall, `must be at most ${MAX_SCHEMA_CHARACTERS / 1024} KB of JSON`);

/** Of what is nested too deeply to be written, the size does not matter. */
function isSmall(schema: unknown): boolean {
  try {
    return JSON.stringify(schema).length <= MAX_SCHEMA_CHARACTERS;
  } catch {
    return false;
  }
}

const toolUrl = z
  .string()
  .max(2_048)
  .regex(TOOL_URL, 'must be an https or http URL, with arguments in its path and query only');

const common = {
  headers: headersBody.default({}),
  /** Seconds one request may take. */
  timeout: z.number().min(0.1).max(600).default(30),
  /** Requests of one call, the first included. */
  max_attempts: z.int().min(1).max(10).default(3),
  /** true for the defaults. */
  requires_approval: z.union([z.boolean(), approvalTermsBody]).default(false),
};

const httpTool = z.strictObject({
  type: z.literal('http'),
  name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ and -'),
  description: z.string().max(MAX_DESCRIPTION_CHARACTERS).optional(),
  parameters: jsonSchema
    .refine((schema) => schema.type === 'object', 'must be a JSON schema of type object')
    .default({ type: 'object', properties: {} }),
  method: z.enum(TOOL_METHODS).default('POST'),
  url: toolUrl,
  places: z.record(z.string(), z.enum(ARGUMENT_PLACES)).default({}),
  ...common,
});

const openapiTools = z.strictObject({
  type: z.literal('openapi'),
  /** An OpenAPI 3.x document. */
  spec: z.record(z.string(), z.unknown()),
  /** The `operationId`s to make tools of; by default all. */
  operations: z.array(z.string()).min(1).max(MAX_TOOLS).optional(),
  /** Instead of the document's first server. */
  base_url: toolUrl.optional(),
  ...common,
});

/** How callers describe tools of an agent. */
export const toolBody = z.discriminatedUnion('type', [httpTool, openapiTools]);

export type ToolBody = z.output<typeof toolBody>;

/**
 * The tools that a body describes: one, or those of an OpenAPI document. Throws `caller_invalid_request`.
 * @param param The field that holds the body.
 */
export function toHttpTools(body: ToolBody, param: string): readonly HttpTool[] {
  const tools = body.type === 'http' ? [toHttpTool(body)] : toOpenApiTools(body, param);
  for (const tool of tools) requireUsable(tool, body.type === 'http' ? param : `${param}.spec`);
  return tools;
}

function toHttpTool({
  name,
  description,
  parameters,
  method,
  url,
  places,
  ...rest
}: z.output<typeof httpTool>): HttpTool {
  return { name, ...(description && { description }), parameters, method, url, places, ...toCommon(rest) };
}

function toOpenApiTools(
  { spec, operations, base_url: baseUrl, ...rest }: z.output<typeof openapiTools>,
  param: string,
): readonly HttpTool[] {
  return toOperations(spec, { only: operations, baseUrl, max: MAX_TOOLS, param }).map(
    ({ description, ...operation }) => ({
      ...operation,
      ...(description && { description: description.slice(0, MAX_DESCRIPTION_CHARACTERS) }),
      ...toCommon(rest),
    }),
  );
}

function toCommon({
  headers,
  timeout,
  max_attempts,
  requires_approval: terms,
}: Pick<z.output<typeof httpTool>, keyof typeof common>) {
  return {
    type: 'http' as const,
    headers: lowerCased(headers),
    timeoutMs: Math.round(timeout * 1000),
    maxAttempts: max_attempts,
    ...(terms !== false && { approval: terms === true ? DEFAULT_APPROVAL_TERMS : toApprovalTerms(terms) }),
  };
}

/** Throws unless a request can be made of the tool's arguments. */
function requireUsable({ name, url, method, parameters, places = {} }: HttpTool, param: string): void {
  const known = parameters.properties ?? {};
  const inUrl = argumentsIn(url);
  const wrong = (problem: string) =>
    new HoldfastError('caller_invalid_request', `The tool '${name}' cannot be used: ${problem}.`, { param });
  if (!TOOL_URL.test(url)) throw wrong('its URL is not an https or http URL with arguments in its path and query only');
  for (const argument of [...inUrl, ...Object.keys(places)]) {
    if (!Object.hasOwn(known, argument)) throw wrong(`'${argument}' is not among its parameters' properties`);
  }
  for (const [argument, place] of Object.entries(places)) {
    if ((place === 'path') !== inUrl.has(argument)) throw wrong(`'path' is the place of what its URL names`);
    if (place === 'header' && !isHeaderName(argument)) throw wrong(`'${argument}' is no header that may be set`);
    if (place.endsWith('body') && method === 'GET') throw wrong('a GET has no body');
  }
  const placed = Object.values(places);
  const whole = placed.filter((place) => place === 'whole_body').length;
  if (whole > 1 || (whole === 1 && placed.includes('body'))) throw wrong('beside a whole body there is nothing in it');
  if (!isSmall(parameters)) throw wrong('its parameters are too large');
}
