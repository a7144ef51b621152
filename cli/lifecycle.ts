import type { Logger } from 'pino';

/** A running process: what breaks it, and how to stop it. */
export interface Running {
  /** Rejects when a part breaks that the process cannot do without. */
  readonly broken: Promise<never>;
  stop(): Promise<void>;
}

/** Runs until a signal or a broken part, stops in order, and ends the process. A second signal ends it at once. */
export async function runUntilStopped(running: Running, logger: Logger): Promise<never> {
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve);
  });
  let exitCode = 0;
  try {
    const signal = await Promise.race([signalled, running.broken]);
    logger.info(`${signal}: finishing what runs, then stopping`);
  } catch (error) {
    logger.fatal({ err: error }, 'The gateway cannot go on');
    exitCode = 1;
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  await running.stop();
  logger.info('Stopped');
  process.exit(exitCode);
}
