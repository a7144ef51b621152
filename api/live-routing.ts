import type { Logger } from 'pino';
import { type RoutingPolicy, routingPolicySchema } from '../config/gateway-schema.ts';
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

/** Routing table and catalogue as the files and the database together say, read again when the database changed. */
export class LiveRouting {
  private current: RoutingTable;
  private storedPolicy: RoutingPolicy | null = null;
  private version: number | undefined;
  /** The database could not be reached when it was last looked at. */
  private away = false;
  private reading: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private readonly deps: LiveRoutingDeps;

  constructor(deps: LiveRoutingDeps) {
    this.deps = deps;
    this.current = buildRoutingTable(deps.config.gateway, deps.config.catalogue, deps.providers);
  }

  /** Immutable; a request takes it once and keeps it. */
  get table(): RoutingTable {
    return this.current;
  }

  /** What is stored over gateway.yaml; null if nothing is. */
  get policy(): RoutingPolicy | null {
    return this.storedPolicy;
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

  /** Takes over what is stored, if it changed. Rejects when the database cannot be reached; the last table stays. */
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
        this.deps.logger.warn({ err: error }, 'Stored models and routing cannot be read; the last ones stay');
      }
      this.away = true;
    }
    if (this.timer) this.timer = setTimeout(() => this.watch(), CHECK_MS).unref();
  }

  private apply({ version, models, policy }: Overlay): void {
    const { config, providers } = this.deps;
    const stored = models.flatMap(({ id, entry }) => this.parseModel(id, entry));
    const latest = models.map(({ updated }) => updated).sort();
    this.storedPolicy = this.parsePolicy(policy);
    this.current = buildRoutingTable(
      { ...config.gateway, ...definedOf(this.storedPolicy) },
      config.catalogue.with(stored, latest.at(-1) ?? ''),
      providers,
    );
    this.version = version;
  }

  /** What an older or newer version stored and this one cannot read is left out. */
  private parseModel(id: string, entry: unknown): readonly CatalogueModel[] {
    const { success, data } = modelSchema.safeParse(entry);
    if (success) return [toModel(id, data, 'stored')];
    this.deps.logger.warn({ model: id }, 'A stored model cannot be read and is left out');
    return [];
  }

  private parsePolicy(policy: unknown): RoutingPolicy | null {
    if (policy === null) return null;
    const { success, data } = routingPolicySchema.safeParse(policy);
    if (success) return data;
    this.deps.logger.warn('The stored routing policy cannot be read; gateway.yaml decides');
    return null;
  }
}

/** The sections that are given. */
const definedOf = (policy: RoutingPolicy | null) => ({
  ...(policy?.default_provider && { default_provider: policy.default_provider }),
  ...(policy?.fallback && { fallback: policy.fallback }),
  ...(policy?.models && { models: policy.models }),
});
