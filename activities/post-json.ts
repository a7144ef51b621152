import dns from 'node:dns';
import type { LookupFunction } from 'node:net';
import { Agent, request } from 'undici';
import { retryAfterMs } from '../domain/retry-after.ts';
import type { AddressPolicy } from './address-policy.ts';
import { NOT_PUBLIC, urlProblem } from './webhook-url.ts';

export interface Post {
  readonly headers: Readonly<Record<string, string>>;
  /** JSON text, sent as it is. */
  readonly body: string;
}

export interface Posting {
  /** Milliseconds for everything, from the name's address to the end of the answer. */
  readonly timeoutMs: number;
  readonly addresses: AddressPolicy;
}

/** What became of a post. `refused`: it was not sent, because its URL or address is not allowed, and never will be. */
export type Posted =
  | { readonly outcome: 'answered'; readonly status: number; readonly retryAfterMs: number | undefined }
  | { readonly outcome: 'unanswered' | 'refused'; readonly reason: string };

/** Bytes of an answer that are read, so that an honest receiver is not cut off; nobody looks at them. */
const MAX_ANSWER_BYTES = 4 * 1024;

/**
 * Posts to a URL that somebody else chose. Only addresses that are allowed are connected to, redirects are answers like
 * any other, and what the receiver says besides its status goes nowhere.
 */
export async function postJson(url: string, post: Post, { timeoutMs, addresses }: Posting): Promise<Posted> {
  const problem = urlProblem(url, addresses);
  if (problem !== undefined) return { outcome: 'refused', reason: problem };
  const signal = AbortSignal.timeout(timeoutMs);
  // One for each post, so that no connection outlives the check of its address.
  const dispatcher = new Agent({ connect: { lookup: lookupWithin(addresses), timeout: timeoutMs } });
  try {
    const { statusCode, headers, body } = await request(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'user-agent': 'Holdfast', ...post.headers },
      body: post.body,
      signal,
      dispatcher,
    });
    await body.dump({ limit: MAX_ANSWER_BYTES }).catch(() => {});
    const header = (name: string) => [headers[name]].flat()[0];
    return { outcome: 'answered', status: statusCode, retryAfterMs: retryAfterMs(header) };
  } catch (error) {
    if (error instanceof AddressRefused) return { outcome: 'refused', reason: error.message };
    return { outcome: 'unanswered', reason: signal.aborted ? 'timeout' : reasonOf(error) };
  } finally {
    await dispatcher.destroy();
  }
}

class AddressRefused extends Error {}

/**
 * Resolves names for connections, so that the address that was checked is the one that is connected to and a name that
 * changes its address gains nothing. One address that is not allowed refuses the name.
 */
export function lookupWithin(addresses: AddressPolicy, resolve: typeof dns.lookup = dns.lookup): LookupFunction {
  return (host, options, callback) => {
    resolve(host, { ...options, all: true }, (error, found) => {
      const [first] = found ?? [];
      if (error || !first) return callback(error ?? new Error(`'${host}' has no address`), '');
      if (!found.every(({ address }) => addresses.allows(host, address))) {
        return callback(new AddressRefused(NOT_PUBLIC), '');
      }
      return options.all ? callback(null, found) : callback(null, first.address, first.family);
    });
  };
}

/** A code such as `ECONNREFUSED` or `CERT_HAS_EXPIRED`. Messages stay out: they may tell of more than the receiver. */
function reasonOf(error: unknown): string {
  const { code, name } = error as { readonly code?: unknown; readonly name?: string };
  return typeof code === 'string' ? code : (name ?? 'Error');
}
