import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode } from '@temporalio/worker';

// The last step of the build: workflow code as the one file that workers load.
const dist = join(dirname(fileURLToPath(import.meta.url)), '..');
const { code } = await bundleWorkflowCode({
  workflowsPath: join(dist, 'workflows', 'index.js'),
  logger: quiet(),
});
writeFileSync(join(dist, 'workflow-bundle.js'), code);

function quiet() {
  const nothing = () => {};
  return { log: nothing, trace: nothing, debug: nothing, info: nothing, warn: console.warn, error: console.error };
}
