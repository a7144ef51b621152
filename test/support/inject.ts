import { once } from 'node:events';
import { connect } from 'node:net';
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
    /** As many as there are workers, so that test files side by side do not see each other. */
    services: readonly Services[];
    /** Socket of the lender that says which of them a test file has for itself. */
    lender: string;
  }
}

// Not by VITEST_POOL_ID: files that run side by side can have the same, and a process can outlive its file.
const lender = connect(injectProvided('lender'));
const [index] = await once(lender, 'data');
// Ends with the process.
lender.unref();
const services = injectProvided('services')[Number(index)] as Services;

/** A service of this test file. */
export const inject = <Name extends keyof Services>(name: Name): Services[Name] => services[name];
