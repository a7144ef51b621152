import ipaddr from 'ipaddr.js';

/** Which addresses may be connected to. */
export interface AddressPolicy {
  /**
   * @param host As the URL names it.
   * @param address An IP address of the host.
   */
  allows(host: string, address: string): boolean;
}

/** For URLs of the operator's own. */
export const ANY_ADDRESS: AddressPolicy = { allows: () => true };

/** All that the internet routes to a host; special ranges are left out one by one by `range()`. */
const GLOBAL_UNICAST = ipaddr.parseCIDR('2000::/3');
/** Azure's WireServer: metadata and credentials of the machine, at an address that looks public. */
const PUBLIC_BUT_INTERNAL: ReadonlySet<string> = new Set(['168.63.129.16']);

/**
 * Public addresses, and those private ones that the operator allows: the addresses of a named host, an address, or a
 * network such as `10.0.0.0/8`.
 */
export function publicAddresses(allowedPrivateHosts: readonly string[]): AddressPolicy {
  const networks = allowedPrivateHosts.map(toNetwork).filter((network) => network !== undefined);
  const names = new Set(allowedPrivateHosts.map(toName));
  return {
    allows(host, text) {
      if (!ipaddr.isValid(text)) return false;
      // An IPv4 address in IPv6 clothes is the IPv4 address.
      const address = ipaddr.process(text);
      return isPublic(address) || names.has(toName(host)) || networks.some((network) => isIn(address, network));
    },
  };
}

const toName = (host: string): string => host.toLowerCase().replace(/\.$/, '');

type Address = ReturnType<typeof ipaddr.parse>;
type Network = ReturnType<typeof ipaddr.parseCIDR>;

function toNetwork(entry: string): Network | undefined {
  if (ipaddr.isValidCIDR(entry)) return ipaddr.parseCIDR(entry);
  if (!ipaddr.isValid(entry)) return undefined;
  const address = ipaddr.process(entry);
  return [address, address.kind() === 'ipv4' ? 32 : 128];
}

const isIn = (address: Address, network: Network): boolean =>
  address.kind() === network[0].kind() && address.match(network);

const isPublic = (address: Address): boolean =>
  address.range() === 'unicast' &&
  (address.kind() === 'ipv4' || isIn(address, GLOBAL_UNICAST)) &&
  !PUBLIC_BUT_INTERNAL.has(address.toString());
