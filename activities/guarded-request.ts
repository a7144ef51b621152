import dns from 'node:dns';
import type { LookupFunction } from 'node:net';
import { Agent, type Dispatcher, request } from 'undici';
import type { AddressPolicy } from './address-policy.ts';
import { NOT_PUBLIC, urlProblem } from './url-problem.ts';

/** A request to a URL that somebody else chose. */
export interface GuardedRequest {
  readonly url: string;
  readonly method: Dispatcher.HttpMethod;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface RequestTerms {
  /** Milliseconds for everything, from the name's address to the end of the answer. */
  readonly timeoutMs: number;
  readonly addresses: AddressPolicy;
  /** Gives the request up. */
  readonly signal?: AbortSignal;
}

/** `refused`: it was not sent, because its URL or address is not allowed, and never will be. */
export interface NoAnswer {
  readonly outcome: 'unanswered' | 'refused';
  readonly reason: string;
}

/**
 * Makes a request. Only addresses that are allowed are connected to, and redirects are answers like any other. Rejects
 * with the signal's reason when that is aborted.
 * @param read What is made of the answer; nobody can read it afterwards.
 */
export async function guardedRequest<T>(
  { url, method, headers, body }: GuardedRequest,
  { timeoutMs, addresses, signal: given }: RequestTerms,
  read: (answer: Dispatcher.ResponseData) => Promise<T>,
): Promise<T | NoAnswer> {
  const problem = urlProblem(url, addresses);
  if (problem !== undefined) return { outcome: 'refused', reason: problem };
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = given ? AbortSignal.any([timeout, given]) : timeout;
  // One for each request, so that no connection outlives the check of its address. The signal keeps the time.
  const dispatcher = new Agent({
    connect: { lookup: lookupWithin(addresses), timeout: timeoutMs },
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  try {
    const sent = { 'user-agent': 'Holdfast', ...headers };
    return await read(await request(url, { method, headers: sent, body: body ?? null, signal, dispatcher }));
  } catch (error) {
    given?.throwIfAborted();
    if (error instanceof AddressRefused) return { outcome: 'refused', reason: error.message };
    return { outcome: 'unanswered', reason: timeout.aborted ? 'timeout' : reasonOf(error) };
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
