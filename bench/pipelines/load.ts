export interface Load {
  readonly connections: number;
  /** Runs begin for this long; those under way then are finished. */
  readonly seconds: number;
}

export interface Loaded {
  /** What the runs returned, in the order in which they ended. */
  readonly ids: readonly string[];
  /** Milliseconds from a run's start to its end, ascending. */
  readonly latencies: readonly number[];
  readonly failed: number;
  /** Until the last run ended. */
  readonly seconds: number;
}

/** Closed loop: each connection begins its next run when the last one has ended. */
export async function closedLoop(run: () => Promise<string>, { connections, seconds }: Load): Promise<Loaded> {
  const ids: string[] = [];
  const latencies: number[] = [];
  let failed = 0;
  const started = performance.now();
  const stopAt = started + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < stopAt) {
        const since = performance.now();
        try {
          ids.push(await run());
          latencies.push(performance.now() - since);
        } catch (error) {
          failed += 1;
          if (failed === 1) process.stderr.write(`${error}\n`);
        }
      }
    }),
  );
  return { ids, latencies: latencies.sort((a, b) => a - b), failed, seconds: (performance.now() - started) / 1000 };
}
