import { LRUCache } from 'lru-cache';
import type { Logger } from 'pino';
import { HoldfastError } from '../domain/errors.ts';
import type { KeyScope } from '../domain/model-call.ts';
import { blamesKey } from '../domain/retry.ts';
import type { ProviderAdapter } from '../providers/adapter.ts';
import { type Credential, parseCredential } from '../providers/credentials.ts';
import type { ProviderKeys, UsableKey } from '../storage/postgres/provider-keys.ts';

/** Milliseconds within which every process knows of a key that was added, changed or removed. */
const MAX_AGE_MS = 1_000;
/** Above this age the next ones are fetched while the present ones serve, so that under load no call waits for them. */
const REFRESH_AGE_MS = 500;
/** Milliseconds that a refused or used up key rests. */
const BENCH_MS = 5 * 60_000;
/** Milliseconds that a rate limited one rests where the provider does not say. */
const RATE_LIMIT_MS = 5_000;
const MAX_BENCH_MS = 60 * 60_000;

/** What a call authenticates with. */
export interface ChosenKey {
  /** null for the credential that the provider was configured with. */
  readonly key: Pick<UsableKey, 'id' | 'revision'> | null;
  readonly credential: Credential | undefined;
}

/** Why a provider cannot be called at the moment. */
export interface NoKey {
  readonly refused: HoldfastError;
}

export interface CredentialsDeps {
  readonly providerKeys: ProviderKeys;
  readonly logger: Logger;
  /** @default Math.random */
  readonly random?: () => number;
}

interface Key extends UsableKey {
  /** Milliseconds since the epoch. */
  readonly freeAt: number;
}

interface Loaded {
  /** When it was asked for, in milliseconds since the epoch. */
  readonly at: number;
  readonly keys: Promise<readonly Key[]>;
  refreshing: boolean;
}

/** Chooses the key for each provider call, and benches keys that providers refuse. */
export class Credentials {
  private readonly deps: CredentialsDeps;
  private readonly loaded = new Map<string, Loaded>();
  private readonly opened = new LRUCache<string, Credential>({ max: 1_000 });

  constructor(deps: CredentialsDeps) {
    this.deps = deps;
  }

  /**
   * The virtual key's own keys go before its team's, and those before everybody's. A caller whose keys are all benched
   * gets none of the others: they are not paid by whom these are.
   * @param fresh Reads the keys now, for a call that follows a failed one.
   */
  async choose(adapter: ProviderAdapter, scope: KeyScope | undefined, fresh = false): Promise<ChosenKey | NoKey> {
    const keys = mostSpecific(await this.keysOf(adapter, fresh), scope);
    if (keys.length > 0) return this.pick(adapter, keys);
    if (!adapter.storedKeysOnly) return { key: null, credential: undefined };
    return { refused: new HoldfastError('provider_auth', `${adapter.name}: no key is stored for this caller`) };
  }

  /** The very key that something was begun with, benched or not. */
  async again(adapter: ProviderAdapter, keyId: string | null): Promise<ChosenKey | NoKey> {
    if (keyId === null) return { key: null, credential: undefined };
    const key = (await this.keysOf(adapter, false)).find(({ id }) => id === keyId);
    if (key) return { key, credential: await this.open(adapter, key) };
    return { refused: new HoldfastError('provider_auth', `${adapter.name}: the key ${keyId} is not stored any more`) };
  }

  /** The credential to probe a provider with: everybody's if there is one, else any. */
  async forProbe(adapter: ProviderAdapter): Promise<Credential | undefined> {
    const all = await this.keysOf(adapter, false);
    const shared = mostSpecific(all, undefined);
    if (shared.length === 0 && !(adapter.storedKeysOnly && all.length > 0)) return undefined;
    const chosen = await this.pick(adapter, shared.length > 0 ? shared : all);
    if ('refused' in chosen) throw chosen.refused;
    return chosen.credential;
  }

  /** After a failed call: benches its key if that is to blame, and says whether another one can be used at once. */
  async replace(
    adapter: ProviderAdapter,
    scope: KeyScope | undefined,
    used: ChosenKey,
    error: HoldfastError,
  ): Promise<boolean> {
    if (!blamesKey(error.code)) return false;
    if (used.key) await this.bench(adapter, scope, used.key, error);
    const next = await this.choose(adapter, scope, true);
    // A key that was changed meanwhile is another one too.
    return !('refused' in next) && (next.key?.id !== used.key?.id || next.key?.revision !== used.key?.revision);
  }

  /**
   * The last key left is benched only when no call with it can succeed: a rate limited one may serve later, and one that
   * was refused with another status than 401 may just not be allowed this model.
   */
  private async bench(
    adapter: ProviderAdapter,
    scope: KeyScope | undefined,
    { id, revision }: Pick<UsableKey, 'id' | 'revision'>,
    error: HoldfastError,
  ): Promise<void> {
    const limited = error.code === 'provider_rate_limited';
    const useless =
      error.code === 'provider_quota_exhausted' || (error.code === 'provider_auth' && error.providerStatus === 401);
    if (!useless && !(await this.hasAnother(adapter, scope, id))) return;
    const forMs = limited ? Math.min(error.retryAfterMs ?? RATE_LIMIT_MS, MAX_BENCH_MS) : BENCH_MS;
    const benched = await this.deps.providerKeys.bench(id, revision, forMs, error.code);
    this.loaded.delete(adapter.name);
    if (!benched) return;
    this.deps.logger.warn(
      { provider: adapter.name, provider_key: id, error: error.code },
      `A key of ${adapter.name} is benched for ${Math.ceil(forMs / 1000)} s`,
    );
  }

  private async hasAnother(adapter: ProviderAdapter, scope: KeyScope | undefined, id: string): Promise<boolean> {
    const keys = mostSpecific(await this.keysOf(adapter, true), scope);
    return keys.some((key) => key.id !== id && key.freeAt <= Date.now());
  }

  private async pick(adapter: ProviderAdapter, keys: readonly Key[]): Promise<ChosenKey | NoKey> {
    const free = keys.filter(({ freeAt }) => freeAt <= Date.now());
    const key = weighted(free, this.deps.random ?? Math.random);
    return key ? { key, credential: await this.open(adapter, key) } : { refused: allBenched(adapter.name, keys) };
  }

  private async open({ type }: ProviderAdapter, key: Key): Promise<Credential> {
    const name = `${key.id}:${key.revision}`;
    const known = this.opened.get(name);
    if (known) return known;
    const credential = parseCredential(type, await this.deps.providerKeys.open(key));
    // The provider's type was changed in gateway.yaml since.
    if (!credential) throw new HoldfastError('gateway_internal', `The stored key ${key.id} does not fit its provider.`);
    this.opened.set(name, credential);
    return credential;
  }

  private async keysOf({ name, region }: ProviderAdapter, fresh: boolean): Promise<readonly Key[]> {
    const keys = await this.load(name, fresh);
    return keys.filter((key) => region === undefined || key.region === null || key.region === region);
  }

  private load(provider: string, fresh: boolean): Promise<readonly Key[]> {
    const known = this.loaded.get(provider);
    const age = known ? Date.now() - known.at : Number.POSITIVE_INFINITY;
    if (!known || fresh || age > MAX_AGE_MS) {
      const keys = this.fetch(provider);
      const loaded: Loaded = { at: Date.now(), keys, refreshing: false };
      this.loaded.set(provider, loaded);
      return keys;
    }
    if (age > REFRESH_AGE_MS && !known.refreshing) {
      known.refreshing = true;
      void this.refresh(provider);
    }
    return known.keys;
  }

  /** Fails silently: the keys at hand expire soon, and who needs them then sees the error. */
  private async refresh(provider: string): Promise<void> {
    const at = Date.now();
    const keys = this.fetch(provider);
    await keys.then(
      () => {
        if ((this.loaded.get(provider)?.at ?? 0) < at) this.loaded.set(provider, { at, keys, refreshing: false });
      },
      () => {},
    );
  }

  private async fetch(provider: string): Promise<readonly Key[]> {
    const rows = await this.deps.providerKeys.usable(provider);
    return rows.map((row) => ({ ...row, freeAt: row.benchedForMs > 0 ? Date.now() + row.benchedForMs : 0 }));
  }
}

/** Of the keys that a caller may use, those that are most its own. */
function mostSpecific(keys: readonly Key[], scope: KeyScope = EVERYBODY): readonly Key[] {
  const usable = keys.filter(
    ({ virtualKeyId, team }) =>
      (virtualKeyId === null || virtualKeyId === scope.virtualKeyId) && (team === null || team === scope.team),
  );
  const own = usable.filter(({ virtualKeyId }) => virtualKeyId !== null);
  if (own.length > 0) return own;
  const ofTeam = usable.filter(({ team }) => team !== null);
  return ofTeam.length > 0 ? ofTeam : usable;
}

const EVERYBODY: KeyScope = { virtualKeyId: null, team: null };

function weighted(keys: readonly Key[], random: () => number): Key | undefined {
  let left = random() * keys.reduce((sum, { weight }) => sum + weight, 0);
  for (const key of keys) {
    left -= key.weight;
    if (left < 0) return key;
  }
  return keys.at(-1);
}

/** The reason of the key that is free first, and when that is. */
function allBenched(provider: string, keys: readonly Key[]): HoldfastError {
  const first = keys.reduce((a, b) => (b.freeAt < a.freeAt ? b : a));
  const retryAfterMs = Math.max(0, Math.ceil(first.freeAt - Date.now()));
  const code = first.benchReason ?? 'provider_auth';
  return new HoldfastError(code, `${provider}: every key that this caller may use is benched`, { retryAfterMs });
}
