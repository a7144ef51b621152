import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type * as threads from 'node:worker_threads';

/**
 * The SDK's workflow threads as `create` starts them, without two services that cost more than the workflows of the
 * interactive queue themselves: a stack trace for every promise, for the call stack in the Temporal UI, and a watchdog
 * thread for every call into a workflow, against endless loops. Measured at 50 connections: 6 and 2 of 36 ms CPU for a
 * request. Workflows in the background run for long and keep both.
 */
export async function withLeanThreads<T>(create: () => Promise<T>): Promise<T> {
  const module = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof threads.Worker };
  const { Worker } = module;
  module.Worker = class extends Worker {
    constructor(file: string | URL, options?: threads.WorkerOptions) {
      const lean = /workflow-worker-thread(\.js)?$/.test(String(file));
      super(lean ? LEAN_THREAD : file, lean ? { ...options, workerData: file } : options);
    }
  };
  try {
    return await create();
  } finally {
    module.Worker = Worker;
  }
}

/** Compiled, as threads of code that runs from source need it too. */
const here = dirname(fileURLToPath(import.meta.url));
const LEAN_THREAD =
  [here, join(here, '..', 'dist', 'workers')].map((dir) => join(dir, 'lean-thread.js')).find(existsSync) ?? '';
