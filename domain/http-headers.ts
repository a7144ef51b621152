import { z } from 'zod';

/** Headers that say how a message is framed or where it goes: not for callers to set. */
const FRAMING =
  /^(host|connection|content-length|transfer-encoding|upgrade|keep-alive|te|trailer|expect|proxy-[a-z-]+)$/i;

const NAME = /^[!#$%&'*+.^_`|~\w-]+$/;
/** What of a text fits into a header; no line breaks, which would begin another. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

export const isHeaderName = (name: string): boolean => NAME.test(name) && !FRAMING.test(name);
export const isHeaderValue = (value: string): boolean => VALUE.test(value);

const MAX_HEADERS = 50;
const MAX_VALUE_CHARACTERS = 8_192;

/** Headers that callers have sent with requests of theirs. Names come out in lower case. */
export const headersBody = z
  .record(
    z.string().refine(isHeaderName, 'must be the name of a header that may be set'),
    z.string().max(MAX_VALUE_CHARACTERS).refine(isHeaderValue, 'must fit into a header'),
  )
  .refine((headers) => Object.keys(headers).length <= MAX_HEADERS, `must be at most ${MAX_HEADERS}`);

/** One spelling for each header, so that none is sent twice. */
export const lowerCased = (headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
