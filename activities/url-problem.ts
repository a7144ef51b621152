import { isIP } from 'node:net';
import type { AddressPolicy } from './address-policy.ts';

/** The host of a URL as a name or a bare address. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[(.*)\]$/, '$1');

/**
 * What is wrong with a URL to send to, as far as it shows without asking for its address; undefined if nothing is. Names
 * are checked by the addresses they have when a connection is made, see `guarded-request.ts`.
 */
export function urlProblem(text: string, addresses: AddressPolicy): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url) return 'It is not a URL.';
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'It must be an https or http URL.';
  if (url.username || url.password) return 'It must not hold a user name or password.';
  const host = hostOf(url);
  if (isIP(host) && !addresses.allows(host, host)) return NOT_PUBLIC;
  return undefined;
}

/** Does not tell the address: what names of an internal network stand for is nobody's business. */
export const NOT_PUBLIC =
  'Its address is not public. An operator can allow it: `allowed_private_hosts` of webhooks or agents in gateway.yaml.';
