import { type Capability, MODEL_CAPABILITIES, type Requirement } from './capabilities.ts';
import { type Catalogue, type CatalogueModel, homeVendor } from './catalogue.ts';
import { HoldfastError } from './errors.ts';

/** A provider as routing sees it. */
export interface RoutableProvider {
  readonly name: string;
  /** Whose model ids it uses; the key of the catalogue's vendor map. */
  readonly vendor: string;
  readonly defaultModel: string | undefined;
  readonly capabilities: ReadonlySet<Capability>;
  /** Where requests to it stay, e.g. `eu`. */
  readonly privacyZones: ReadonlySet<string>;
}

export interface FallbackPolicy {
  readonly enabled: boolean;
  /** Providers to try after the one asked for, in order. */
  readonly order: readonly string[];
  /** Targets per request, including the first. */
  readonly maxTargets: number;
  /** Try the first target once more after all others failed. */
  readonly retryOriginal: boolean;
}

/** Everything routing decides by: immutable, built once from config and catalogue. */
export interface RoutingTable {
  readonly defaultProvider: string;
  /** Configured providers in the order of the config. */
  readonly providers: ReadonlyMap<string, RoutableProvider>;
  readonly aliases: ReadonlyMap<string, readonly { readonly provider: string; readonly model: string }[]>;
  readonly catalogue: Catalogue;
  readonly fallback: FallbackPolicy;
}

export interface RouteRequest {
  /** An alias, `provider/model`, or a model of the catalogue; absent for the provider's default. */
  readonly model?: string | undefined;
  /** Ask for this provider (`/v1/generate`). */
  readonly provider?: string | undefined;
  /** Only providers of this privacy zone may be asked. */
  readonly zone?: string | undefined;
  readonly requirements: readonly Requirement[];
}

export interface RouteTarget {
  readonly provider: string;
  /** The id the provider's API expects. */
  readonly model: string;
  readonly catalogued: CatalogueModel | undefined;
}

/**
 * The ordered targets of a request. Throws `caller_model_not_found`, `caller_unsupported_parameter`, or
 * `policy_privacy_zone` when only providers outside the request's zone could serve it.
 */
export function planRoute(table: RoutingTable, { zone, ...request }: RouteRequest): readonly RouteTarget[] {
  if (zone === undefined) return plan(table, request);
  try {
    return plan(withinZone(table, zone), request);
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== 'caller_model_not_found') throw error;
    plan(table, request);
    const message = `No provider of the privacy zone '${zone}' serves '${request.model}'.`;
    throw new HoldfastError('policy_privacy_zone', message, { param: 'model' });
  }
}

function plan(table: RoutingTable, request: RouteRequest): readonly RouteTarget[] {
  const { candidates, explicit } = resolve(table, request);
  const first = candidates[0];
  if (!first) throw modelNotFound(request.model ?? request.provider ?? '');
  const lacking = firstLacking(table, first, request.requirements);
  if (explicit && lacking) throw unsupported(first, lacking);

  const chain = table.fallback.enabled
    ? [...candidates, ...(explicit ? fallbacksOf(table, first, candidates) : [])]
    : [first];
  const capable = chain.filter((target) => !firstLacking(table, target, request.requirements));
  const planned = capable.slice(0, Math.max(1, table.fallback.maxTargets));
  const original = planned[0];
  if (!original) throw unsupported(first, lacking as Requirement);
  return table.fallback.enabled && table.fallback.retryOriginal && planned.length > 1
    ? [...planned, original]
    : planned;
}

/** The table as if there were no providers but those of a zone. */
function withinZone(table: RoutingTable, zone: string): RoutingTable {
  const providers = new Map([...table.providers].filter(([, { privacyZones }]) => privacyZones.has(zone)));
  const first = providers.keys().next().value;
  if (first === undefined) {
    throw new HoldfastError('policy_privacy_zone', `No configured provider belongs to the privacy zone '${zone}'.`);
  }
  const { defaultProvider } = table;
  return { ...table, providers, defaultProvider: providers.has(defaultProvider) ? defaultProvider : first };
}

interface Resolution {
  readonly candidates: readonly RouteTarget[];
  /** The caller named one model, so it has to be able to serve the request; an alias may skip targets. */
  readonly explicit: boolean;
}

function resolve(table: RoutingTable, { model, provider }: RouteRequest): Resolution {
  if (provider !== undefined) return { candidates: [atProvider(table, provider, model)], explicit: true };
  if (model === undefined) return { candidates: [atProvider(table, table.defaultProvider, undefined)], explicit: true };

  const alias = table.aliases.get(model);
  if (alias) {
    const configured = alias.filter((target) => table.providers.has(target.provider));
    if (configured.length === 0) {
      const names = [...new Set(alias.map((target) => target.provider))].join(', ');
      throw modelNotFound(model, `No provider of the alias '${model}' is configured (it needs one of: ${names}).`);
    }
    return { candidates: configured.map((target) => targetAt(table, target.provider, target.model)), explicit: false };
  }

  const slash = model.indexOf('/');
  const prefix = slash > 0 ? model.slice(0, slash) : undefined;
  if (prefix && table.providers.has(prefix)) {
    return { candidates: [targetAt(table, prefix, model.slice(slash + 1))], explicit: true };
  }

  const candidates = providersServing(table, model).map((name) => targetAt(table, name, model));
  return { candidates: candidates.slice(0, 1), explicit: true };
}

/** Configured providers that serve `model`: the default one first, then fallback order, then the config's. */
function providersServing(table: RoutingTable, model: string): readonly string[] {
  const catalogued = table.catalogue.find(model);
  const order = [...new Set([table.defaultProvider, ...table.fallback.order, ...table.providers.keys()])];
  return order.filter((name) => {
    const provider = table.providers.get(name);
    if (!provider) return false;
    if (provider.defaultModel === model) return true;
    return catalogued?.vendors.has(provider.vendor) || table.catalogue.findAt(provider.vendor, model) !== undefined;
  });
}

function atProvider(table: RoutingTable, name: string, model: string | undefined): RouteTarget {
  const provider = table.providers.get(name);
  if (!provider) {
    const names = [...table.providers.keys()].join(', ');
    throw new HoldfastError('caller_invalid_request', `Provider '${name}' is not configured. Configured: ${names}.`, {
      param: 'provider',
    });
  }
  const chosen = model ?? provider.defaultModel;
  if (!chosen) {
    throw new HoldfastError('caller_invalid_request', `Provider '${name}' has no default model; name one in 'model'.`, {
      param: 'model',
    });
  }
  return targetAt(table, name, chosen);
}

/** Other providers of `fallback_order`: with the same model where they serve it, else with their default model. */
function fallbacksOf(table: RoutingTable, first: RouteTarget, taken: readonly RouteTarget[]): RouteTarget[] {
  const used = new Set(taken.map((target) => target.provider));
  const targets: RouteTarget[] = [];
  for (const name of table.fallback.order) {
    const provider = table.providers.get(name);
    if (!provider || used.has(name)) continue;
    const same = first.catalogued?.vendors.has(provider.vendor) ? first.catalogued.id : undefined;
    const model = same ?? provider.defaultModel;
    if (model) targets.push(targetAt(table, name, model));
  }
  return targets;
}

/**
 * Only names of the catalogue are translated: a vendor's own id, a dated snapshot at its vendor, stay as asked for. The
 * provider's default model stands for its namesake, because its id may say more (Bedrock's inference profiles).
 */
function targetAt(table: RoutingTable, name: string, model: string): RouteTarget {
  const vendor = table.providers.get(name)?.vendor ?? name;
  const catalogued = table.catalogue.findAt(vendor, model);
  const isName = catalogued !== undefined && table.catalogue.find(model) === catalogued;
  const isSnapshot = isName && catalogued.aliases.includes(model) && vendor === homeVendor(catalogued);
  if (!isName || isSnapshot) return { provider: name, model, catalogued };
  const own = table.providers.get(name)?.defaultModel;
  const isOwn = own !== undefined && table.catalogue.findAt(vendor, own) === catalogued;
  return { provider: name, model: isOwn ? own : (catalogued.vendors.get(vendor) ?? model), catalogued };
}

function firstLacking(
  table: RoutingTable,
  target: RouteTarget,
  requirements: readonly Requirement[],
): Requirement | undefined {
  const provider = table.providers.get(target.provider)?.capabilities;
  const model = target.catalogued?.capabilities;
  return requirements.find(({ capability }) => {
    if (provider && !provider.has(capability)) return true;
    return model !== undefined && MODEL_CAPABILITIES.has(capability) && !model.has(capability);
  });
}

const modelNotFound = (model: string, message?: string) =>
  new HoldfastError(
    'caller_model_not_found',
    message ?? `The model '${model}' does not exist or no configured provider serves it. GET /v1/models lists them.`,
    { param: 'model' },
  );

const unsupported = (target: RouteTarget, { capability, param }: Requirement) =>
  new HoldfastError(
    'caller_unsupported_parameter',
    `'${param}' needs the capability '${capability}', which ${target.provider}/${target.model} does not have.`,
    { param },
  );
