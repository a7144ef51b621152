/** A part of a tool's URL that stands for an argument: `{name}`. */
const PLACEHOLDER = /\{([^{}]+)\}/g;

/**
 * Arguments may stand in the path and the query. In the host they would send the tool's credentials wherever a model
 * likes.
 */
export const TOOL_URL = /^https?:\/\/[^{}/?#\\@\s]+([/?][^#\s]*)?$/i;

/** The arguments that a tool's URL names. */
export const argumentsIn = (url: string): ReadonlySet<string> =>
  new Set([...url.matchAll(PLACEHOLDER)].map(([, name]) => name as string));

/** @param writtenAs What an argument is written as, escaped by whoever calls. */
export const fillIn = (url: string, writtenAs: (name: string) => string): string =>
  url.replace(PLACEHOLDER, (_placeholder, name: string) => writtenAs(name));
