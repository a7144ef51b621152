import type { Logger } from 'pino';
import type { z } from 'zod';
import {
  type GatewayConfig,
  type PlatformSettings,
  type RoutingPolicy,
  routingPolicySchema,
  type StoredSettings,
  storedSettingsSchema,
} from '../config/gateway-schema.ts';
import type { LoadedConfig } from '../config/load.ts';
import { modelSchema, toModel } from '../config/models-schema.ts';
import type { CatalogueModel } from '../domain/catalogue.ts';
import type { RoutingTable } from '../domain/route-plan.ts';
import { buildRoutingTable, type ProviderRegistry } from '../providers/registry.ts';
import type { Overlay, Overlays } from '../storage/postgres/overlays.ts';

/** Milliseconds between two looks at the database: a change reaches every process within. */
const CHECK_MS = 1_000;

export interface LiveRoutingDeps {
  readonly config: LoadedConfig;
  readonly providers: ProviderRegistry;
  readonly overlays: Pick<Overlays, 'read'>;
  readonly logger: Logger;
}

/** What is stored over gateway.yaml; null where nothing is. */
export interface StoredParts {
  readonly policy: RoutingPolicy | null;
  readonly settings: StoredSettings | null;
}

/** Routing table, catalogue and settings as files and database together say, read again when the database changed. */
export class LiveRouting {
  private current: RoutingTable;
  private currentSettings: PlatformSettings;
  private storedParts: StoredParts = { policy: null, settings: null };
  private version: number | undefined;
  /** The database could not be reached when it was last looked at. */
  private away = false;
  private reading: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private readonly deps: LiveRoutingDeps;

  constructor(deps: LiveRoutingDeps) {
    this.deps = deps;
    this.current = buildRoutingTable(deps.config.gateway, deps.config.catalogue, deps.providers);
    this.currentSettings = settingsOf(deps.config.gateway);
  }

  /** Immutable; a request takes it once and keeps it. */
  get table(): RoutingTable {
    return this.current;
  }

  /** Immutable as well. */
  get settings(): PlatformSettings {
    return this.currentSettings;
  }

  get stored(): StoredParts {
    return this.storedParts;
  }

  /** Reads what is stored and goes on looking. */
  async start(): Promise<void> {
    await this.refresh();
    this.timer = setTimeout(() => this.watch(), CHECK_MS).unref();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** Takes over what is stored, if it changed. Rejects when the database cannot be reached; the last one stays. */
  refresh(): Promise<void> {
    // One after the other, so that an older reading never replaces a newer one.
    this.reading = this.reading.catch(() => {}).then(() => this.read());
    return this.reading;
  }

  private async read(): Promise<void> {
    const overlay = await this.deps.overlays.read(this.version);
    if (overlay) this.apply(overlay);
  }

  private async watch(): Promise<void> {
    try {
      await this.refresh();
      this.away = false;
    } catch (error) {
      // Once an outage.
      if (!this.away) {
        this.deps.logger.warn({ err: error }, 'Stored models, routing and settings cannot be read; the last ones stay');
      }
      this.away = true;
    }
    if (this.timer) this.timer = setTimeout(() => this.watch(), CHECK_MS).unref();
  }

  private apply({ version, models, ...parts }: Overlay): void {
    const { config, providers } = this.deps;
    const storedModels = models.flatMap(({ id, entry }) => this.parseModel(id, entry));
    const latest = models.map(({ updated }) => updated).sort();
    const policy = this.parse(routingPolicySchema, parts.policy, 'routing policy');
    const settings = this.parse(storedSettingsSchema, parts.settings, 'settings');
    this.storedParts = { policy, settings };
    this.current = buildRoutingTable(
      { ...config.gateway, ...given(policy) },
      config.catalogue.with(storedModels, latest.at(-1) ?? ''),
      providers,
    );
    this.currentSettings = { ...settingsOf(config.gateway), ...given(settings) };
    this.version = version;
  }

  /** What an older or newer version stored and this one cannot read is left out. */
  private parseModel(id: string, entry: unknown): readonly CatalogueModel[] {
    const { success, data } = modelSchema.safeParse(entry);
    if (success) return [toModel(id, data, 'stored')];
    this.deps.logger.warn({ model: id }, 'A stored model cannot be read and is left out');
    return [];
  }

  private parse<Stored extends object>(schema: z.ZodType<Stored>, stored: unknown, what: string): Stored | null {
    if (stored === null) return null;
    const { success, data } = schema.safeParse(stored);
    if (success) return data;
    this.deps.logger.warn(`The stored ${what} cannot be read; gateway.yaml decides`);
    return null;
  }
}

const settingsOf = ({ rate_limit, budgets, logging, retry }: GatewayConfig): PlatformSettings => ({
  rate_limit,
  budgets: { unpriced_models: budgets.unpriced_models },
  logging,
  retry,
});

type Given<Stored> = { readonly [Section in keyof Stored]?: Exclude<Stored[Section], undefined> };

/** The sections that are stored. */
const given = <Stored extends object>(stored: Stored | null): Given<Stored> =>
  Object.fromEntries(Object.entries(stored ?? {}).filter(([, section]) => section !== undefined)) as Given<Stored>;
