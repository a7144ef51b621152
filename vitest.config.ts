import { defineConfig } from 'vitest/config';

// Without servers: pure code and adapters against recorded shapes.
const unit = ['domain', 'config', 'providers', 'activities'];
// With real Temporal, Postgres and Redis.
const integration = ['storage', 'planning', 'calls', 'workflows', 'api', 'embedded', 'cli'];

const withServers = {
  globalSetup: 'test/support/services.ts',
  pool: 'forks',
  testTimeout: 60_000,
  hookTimeout: 120_000,
} as const;

const include = (folders: readonly string[]) => folders.map((folder) => `test/${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: [...include(unit), 'test/*.test.ts'] } },
      // Two files at a time, as tests mostly wait; each has servers of its own.
      {
        test: {
          name: 'integration',
          include: include(integration),
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          ...withServers,
        },
      },
      {
        test: { name: 'slow', include: include(['slow']), maxWorkers: 1, sequence: { groupOrder: 2 }, ...withServers },
      },
    ],
  },
});
