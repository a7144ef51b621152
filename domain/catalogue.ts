import type { Capability } from './capabilities.ts';
import type { Price } from './money.ts';

/** Where a model's entry stands: in the built-in catalogue, in the operator's models file, or in the database. */
export const MODEL_SOURCES = ['built_in', 'file', 'stored'] as const;

export type ModelSource = (typeof MODEL_SOURCES)[number];

/** A price that holds from a day on. */
export interface PriceChange {
  /** ISO date; the change is at its midnight, UTC. */
  readonly from: string;
  readonly price: Price;
}

/** One model of the catalogue. */
export interface CatalogueModel {
  /** The name callers use, e.g. `claude-sonnet-4-5`. */
  readonly id: string;
  /** Other names for the same model, e.g. its dated snapshot. */
  readonly aliases: readonly string[];
  /** Tokens of input and output together. */
  readonly contextWindow: number;
  readonly maxOutputTokens: number;
  /** The price until the first of `priceChanges`. */
  readonly price: Price;
  /** Announced prices, in the order of their days. */
  readonly priceChanges: readonly PriceChange[];
  readonly capabilities: ReadonlySet<Capability>;
  /** Vendor → the id that vendor's API expects. The first is the model's own vendor, which also knows its aliases. */
  readonly vendors: ReadonlyMap<string, string>;
  readonly source: ModelSource;
}

/**
 * The model as it is priced at a moment.
 * @param at Milliseconds since the epoch.
 */
export function pricedAt(model: CatalogueModel, at: number): CatalogueModel {
  const due = model.priceChanges.filter(({ from }) => Date.parse(from) <= at);
  const price = due.at(-1)?.price ?? model.price;
  return { ...model, price, priceChanges: model.priceChanges.slice(due.length) };
}

/** The vendor that made the model. */
export const homeVendor = (model: CatalogueModel): string | undefined => model.vendors.keys().next().value;

/** The models the gateway knows, with their prices. */
export class Catalogue {
  private readonly byName = new Map<string, CatalogueModel>();
  private readonly byVendorId = new Map<string, CatalogueModel>();
  readonly models: readonly CatalogueModel[];
  /** The day the prices were read (ISO date); it is stored with every reservation as the price version. */
  readonly priceDate: string;

  constructor(models: readonly CatalogueModel[], priceDate: string) {
    this.models = models;
    this.priceDate = priceDate;
    for (const model of models) {
      for (const name of [model.id, ...model.aliases]) this.byName.set(name, model);
      for (const [vendor, id] of model.vendors) this.byVendorId.set(`${vendor}/${id}`, model);
    }
  }

  /** The catalogue with `models` added; one of the same id replaces what was there. */
  with(models: readonly CatalogueModel[], priceDate: string): Catalogue {
    const all = new Map([...this.models, ...models].map((model) => [model.id, model]));
    return new Catalogue([...all.values()], priceDate > this.priceDate ? priceDate : this.priceDate);
  }

  /** A model by the name callers use. */
  find(name: string): CatalogueModel | undefined {
    return this.byName.get(name);
  }

  /** A model by the id a vendor's API uses, or by a name callers use if that vendor serves it. */
  findAt(vendor: string, id: string): CatalogueModel | undefined {
    const named = this.byName.get(id);
    return this.byVendorId.get(`${vendor}/${withoutGeography(id)}`) ?? (named?.vendors.has(vendor) ? named : undefined);
  }

  servedBy(vendor: string): readonly CatalogueModel[] {
    return this.models.filter((model) => model.vendors.has(vendor));
  }
}

/** Bedrock's cross-region inference profiles put a geography before the model id: `us.anthropic.claude-…`. */
const withoutGeography = (id: string): string => id.replace(/^(us|eu|apac|au|jp|ca|global|us-gov)\./, '');
