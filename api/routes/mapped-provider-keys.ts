import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { hintOf, parseCredential } from '../../providers/credentials.ts';
import type { ProviderRegistry } from '../../providers/registry.ts';
import type { MappedKey, ProviderKeys, Secret } from '../../storage/postgres/provider-keys.ts';

/** A provider's key as callers of the admin API send it. */
export const secret = z.string().trim().min(1).max(8_192);

/** A virtual key's own provider keys, in a request. */
export const mappedProviderKeys = z.array(z.strictObject({ providerId: z.string(), apiKey: secret })).max(100);

/** The same in an answer. */
export const shownMappedKeys = z.array(z.object({ providerId: z.string(), hint: z.string() }));

export type ShownMappedKeys = z.infer<typeof shownMappedKeys>;

/** A checked key with its hint. Throws `caller_invalid_request` about `param`, without the key. */
export function toSecret(providers: ProviderRegistry, provider: string, key: string, param: string): Secret {
  const adapter = providers.get(provider);
  if (!adapter) {
    throw new HoldfastError('caller_invalid_request', `Provider '${provider}' is not configured.`, { param });
  }
  const credential = parseCredential(adapter.type, key);
  if (credential) return { secret: key, hint: hintOf(credential) };
  const shape =
    adapter.type === 'bedrock'
      ? "'accessKeyId:secretAccessKey', or JSON with these fields"
      : 'printable, without spaces';
  throw new HoldfastError('caller_invalid_request', `A key of provider '${provider}' has to be ${shape}.`, { param });
}

/** Reads and shows the provider keys that virtual keys have of their own. */
export function mappedKeys(providerKeys: ProviderKeys, providers: ProviderRegistry) {
  const ofAll = async (keys: readonly { readonly id: string }[]) => {
    const mapped = await providerKeys.mappedTo(keys.map(({ id }) => id));
    return ({ id }: { readonly id: string }): ShownMappedKeys =>
      (mapped.get(id) ?? []).map(({ provider, hint }) => ({ providerId: provider, hint }));
  };
  return {
    ofAll,
    of: async (key: { readonly id: string }): Promise<ShownMappedKeys> => (await ofAll([key]))(key),
    /** undefined leaves them as they are, null is none. */
    parse: (list: z.infer<typeof mappedProviderKeys> | null | undefined): readonly MappedKey[] | undefined =>
      list === null
        ? []
        : list?.map(({ providerId, apiKey }, i) => ({
            provider: providerId,
            ...toSecret(providers, providerId, apiKey, `mappedProviderKeys[${i}]`),
          })),
  };
}
