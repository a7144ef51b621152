import type { Worker } from '@temporalio/worker';

/** Ends when all ended; when one breaks, the others are stopped and the failure is thrown. */
export async function runTogether(workers: readonly Worker[]): Promise<void> {
  const running = workers.map((worker) =>
    worker.run().catch((error: unknown) => {
      stopWorkers(workers);
      throw error;
    }),
  );
  const results = await Promise.allSettled(running);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Asks those that run to finish. */
export function stopWorkers(workers: readonly Worker[]): void {
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
}
