import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { VersioningBehavior, WorkerDeploymentVersion } from '@temporalio/common';
import { type NativeConnection, Worker, type WorkerOptions, type WorkflowBundleOption } from '@temporalio/worker';
import type { Activities } from '../activities/index.ts';
import { MAX_AT_HAND } from '../calls/calls.ts';
import { backgroundQueue } from '../domain/task-queues.ts';
import { withLeanThreads } from './lean-threads.ts';

export interface GatewayWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly taskQueue: string;
  /** Tells workers of this code from others where they are not versioned. */
  readonly buildId: string;
  /** The version of a worker deployment that the workers are of, if it has versions. */
  readonly version: WorkerDeploymentVersion | undefined;
  readonly activities: Activities;
  readonly workflowBundle: WorkflowBundleOption;
  /** Milliseconds that running calls get to finish on shutdown. */
  readonly shutdownGraceMs: number;
}

/** Provider calls wait on the network; the limit only guards memory. */
const MAX_CONCURRENT_CALLS = 2_000;
/**
 * Measured at 50 connections: with the SDK's 40, starts that find no slot wait for seconds behind later ones that do;
 * with 200, p95 fell from 4.2 s to 0.9 s and throughput rose by a fifth.
 */
const MAX_CONCURRENT_WORKFLOW_TASKS = 200;
/** What a worker takes after its grace time before it gives up on a call that ignores its abort. */
const FORCE_AFTER_GRACE_MS = 10_000;

/** Who a worker is in histories and in the Temporal UI. */
export const IDENTITY = `${process.pid}@${hostname()}`;

/**
 * The worker of the interactive queue, where sync requests run. What is here is short, or repeats one activity: workers of
 * a new version take it over, so that a caller gets an answer whatever becomes of the old ones.
 */
export const createInteractiveWorker = (options: GatewayWorkerOptions): Promise<Worker> =>
  withLeanThreads(() =>
    Worker.create({
      ...common(options, 'AUTO_UPGRADE'),
      maxConcurrentWorkflowTaskExecutions: MAX_AT_HAND + MAX_CONCURRENT_WORKFLOW_TASKS,
      maxConcurrentActivityTaskExecutions: MAX_CONCURRENT_CALLS,
    }),
  );

/**
 * The worker of the background queue. Runs stay with the version they began on.
 * @param maxCalls Provider calls it makes at the same time; what is more waits in the queue.
 */
export const createBackgroundWorker = (options: GatewayWorkerOptions, maxCalls: number): Promise<Worker> =>
  Worker.create({
    ...common(options, 'PINNED'),
    taskQueue: backgroundQueue(options.taskQueue),
    maxConcurrentActivityTaskExecutions: maxCalls,
  });

const common = (options: GatewayWorkerOptions, behavior: VersioningBehavior): WorkerOptions => ({
  connection: options.connection,
  namespace: options.namespace,
  taskQueue: options.taskQueue,
  identity: IDENTITY,
  ...versioning(options, behavior),
  workflowBundle: options.workflowBundle,
  activities: options.activities,
  reuseV8Context: true,
  stickyQueueScheduleToStartTimeout: '1 second',
  maxConcurrentWorkflowTaskExecutions: MAX_CONCURRENT_WORKFLOW_TASKS,
  maxConcurrentLocalActivityExecutions: MAX_CONCURRENT_CALLS,
  shutdownGraceTime: options.shutdownGraceMs,
  shutdownForceTime: options.shutdownGraceMs + FORCE_AFTER_GRACE_MS,
});

const versioning = (
  { buildId, version }: GatewayWorkerOptions,
  defaultVersioningBehavior: VersioningBehavior,
): Partial<WorkerOptions> =>
  version
    ? { workerDeploymentOptions: { useWorkerVersioning: true, version, defaultVersioningBehavior } }
    : { buildId };

/** Workflow code as the build bundled it: beside the compiled code, or in `dist` when this runs from source. */
export function workflowBundle(): WorkflowBundleOption {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const places = [root, join(root, 'dist')].map((place) => join(place, 'workflow-bundle.js'));
  return { codePath: places.find((place) => existsSync(place)) ?? join(root, 'workflow-bundle.js') };
}
