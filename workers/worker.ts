import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, type NativeConnection, Worker, type WorkflowBundleOption } from '@temporalio/worker';
import type { Activities } from '../activities/index.ts';

export interface WorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly activities: Activities;
  readonly workflowBundle: WorkflowBundleOption;
  /** Milliseconds that running calls get to finish on shutdown. */
  readonly shutdownGraceMs: number;
}

/** Provider calls wait on the network; the limit only guards memory. */
const MAX_CONCURRENT_CALLS = 2_000;
/** What a worker takes after its grace time before it gives up on a call that ignores its abort. */
const FORCE_AFTER_GRACE_MS = 10_000;

/** The worker of the interactive queue, where sync requests run. */
export const createInteractiveWorker = (options: WorkerOptions): Promise<Worker> =>
  Worker.create({
    connection: options.connection,
    namespace: options.namespace,
    taskQueue: options.taskQueue,
    identity: `${process.pid}@${hostname()}`,
    workflowBundle: options.workflowBundle,
    activities: options.activities,
    reuseV8Context: true,
    stickyQueueScheduleToStartTimeout: '1 second',
    maxConcurrentActivityTaskExecutions: MAX_CONCURRENT_CALLS,
    maxConcurrentLocalActivityExecutions: MAX_CONCURRENT_CALLS,
    shutdownGraceTime: options.shutdownGraceMs,
    shutdownForceTime: options.shutdownGraceMs + FORCE_AFTER_GRACE_MS,
  });

const BUNDLE_FILE = 'workflow-bundle.js';

/** The bundle made by the build; from sources, as tests run, it is made on the spot. */
export async function loadWorkflowBundle(): Promise<WorkflowBundleOption> {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const prebuilt = join(root, BUNDLE_FILE);
  if (existsSync(prebuilt)) return { codePath: prebuilt };
  return bundleWorkflowCode({ workflowsPath: join(root, 'workflows', 'index.ts') });
}
