import { HoldfastError } from '../../domain/errors.ts';
import { isVirtualKey, type VirtualKey, type VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { remembered } from './remembered.ts';

/** Virtual keys that may be used now. Both throw `caller_unauthenticated` for any other. */
export interface ApiKeys {
  byToken(token: string): Promise<VirtualKey>;
  byId(id: string): Promise<VirtualKey>;
}

export function createApiKeys(virtualKeys: VirtualKeys): ApiKeys {
  const findByToken = remembered((token) => virtualKeys.findByKey(token));
  const findById = remembered((id) => virtualKeys.get(id));
  return {
    byToken: async (token) => usable(isVirtualKey(token) ? await findByToken(token) : undefined),
    byId: async (id) => usable(await findById(id)),
  };
}

function usable(key: VirtualKey | undefined): VirtualKey {
  if (!key) throw unauthenticated('Incorrect API key provided.');
  if (!key.isActive) throw unauthenticated('This API key is not active.');
  if (!key.userIsActive) throw unauthenticated('The user of this API key is not active.');
  if (key.expiresAt && key.expiresAt.getTime() <= Date.now()) throw unauthenticated('This API key has expired.');
  return key;
}

export const unauthenticated = (message: string): HoldfastError => new HoldfastError('caller_unauthenticated', message);
