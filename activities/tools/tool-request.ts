import { isHeaderValue } from '../../domain/http-headers.ts';
import type { ArgumentPlace, HttpTool } from '../../domain/tool.ts';
import { argumentsIn, fillIn } from '../../domain/tool-url.ts';
import type { GuardedRequest } from '../guarded-request.ts';

export type ToolArguments = Readonly<Record<string, unknown>>;

/** Arguments that no request can be made of. The message is for the model that gave them. */
export class UnusableArguments extends Error {}

/**
 * The request of one call of a tool. Throws `UnusableArguments`.
 * @param idempotencyKey The same for each request of a call.
 */
export function toToolRequest(tool: HttpTool, args: ToolArguments, idempotencyKey: string): GuardedRequest {
  const given = Object.entries(args).filter(([, value]) => value !== undefined && value !== null);
  const inUrl = argumentsIn(tool.url);
  const standard: ArgumentPlace = tool.method === 'GET' || tool.method === 'DELETE' ? 'query' : 'body';
  const placeOf = (name: string) => (inUrl.has(name) ? 'path' : own(tool.places, name)) ?? standard;
  const at = (place: ArgumentPlace) => given.filter(([name]) => placeOf(name) === place);
  const body = bodyOf(
    tool,
    Object.entries(args).filter(([name]) => placeOf(name) === 'body'),
    at('whole_body'),
    standard,
  );
  return {
    url: withQuery(filledUrl(tool.url, Object.fromEntries(at('path'))), at('query')),
    method: tool.method,
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headersOf(at('header')),
      ...tool.headers,
      'idempotency-key': idempotencyKey,
    },
    ...(body !== undefined && { body }),
  };
}

type Entries = readonly (readonly [string, unknown])[];

const own = <T>(record: Readonly<Record<string, T>> = {}, name: string): T | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined;

/** undefined for no body. A `null` in it says something, unlike elsewhere. */
function bodyOf(tool: HttpTool, fields: Entries, whole: Entries, standard: ArgumentPlace): string | undefined {
  if (Object.values(tool.places ?? {}).includes('whole_body')) return whole[0] && JSON.stringify(whole[0][1]);
  if (fields.length === 0 && standard !== 'body') return undefined;
  return JSON.stringify(Object.fromEntries(fields));
}

/** Segments that lead elsewhere in a path, as URLs read them. */
const DOT_SEGMENT = /^(\.|%2e){1,2}$/i;

function filledUrl(template: string, values: ToolArguments): string {
  const url = fillIn(template, (name) => {
    const value = own(values, name);
    const text = value === undefined ? '' : encode(textOf(value));
    if (text === '') throw new UnusableArguments(`The argument '${name}' is needed.`);
    return text;
  });
  const [path = ''] = url.split('?');
  if (path.split('/').some((segment) => DOT_SEGMENT.test(segment))) {
    throw new UnusableArguments('An argument must not make a dot segment of the path.');
  }
  return url;
}

function withQuery(url: string, entries: Entries): string {
  const pairs = entries.flatMap(([name, value]) =>
    [value].flat().map((item) => `${encode(name)}=${encode(textOf(item))}`),
  );
  if (pairs.length === 0) return url;
  return `${url}${url.includes('?') ? '&' : '?'}${pairs.join('&')}`;
}

function headersOf(entries: Entries): Readonly<Record<string, string>> {
  return Object.fromEntries(
    entries.map(([name, value]) => {
      const text = textOf(value);
      if (!isHeaderValue(text)) throw new UnusableArguments(`The argument '${name}' does not fit into a header.`);
      return [name.toLowerCase(), text];
    }),
  );
}

/** Lists are written with commas, objects as JSON. */
function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join(',');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Half a surrogate pair, which a model may write, would be refused. */
const encode = (text: string): string => encodeURIComponent(Buffer.from(text).toString());
