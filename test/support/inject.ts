import { inject as injectProvided } from 'vitest';

/** What the integration tests share. */
export interface Services {
  /** `host:port` of a Temporal dev server. */
  readonly temporal: string;
  /** Socket directory of an embedded Postgres. */
  readonly embeddedPostgres: string;
  /** URL of a real Postgres, or null where none is installed. */
  readonly postgres: string | null;
  /** URL of a real Redis, or null where none is installed. */
  readonly redis: string | null;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** One of each for every worker, so that test files side by side do not see each other. */
    services: readonly Services[];
  }
}

/** A service of the worker that asks. */
export function inject<Name extends keyof Services>(name: Name): Services[Name] {
  const services = injectProvided('services')[Number(process.env.VITEST_POOL_ID) - 1];
  if (!services) throw new Error(`Worker ${process.env.VITEST_POOL_ID} has no services`);
  return services[name];
}
