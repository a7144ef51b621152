import { defineConfig } from 'vitest/config';

// Without servers: pure code and adapters against recorded shapes.
const unit = ['domain', 'config', 'providers', 'activities'];
// With real Temporal, Postgres and Redis, one file at a time: two cores are all a small machine has.
const integration = ['storage', 'planning', 'calls', 'workflows', 'api', 'embedded', 'cli'];

const withServers = {
  globalSetup: 'test/support/services.ts',
  pool: 'forks',
  fileParallelism: false,
  testTimeout: 60_000,
  hookTimeout: 120_000,
} as const;

const include = (folders: readonly string[]) => folders.map((folder) => `test/${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: [...include(unit), 'test/*.test.ts'] } },
      { test: { name: 'integration', include: include(integration), ...withServers } },
      { test: { name: 'slow', include: include(['slow']), ...withServers } },
    ],
  },
});
