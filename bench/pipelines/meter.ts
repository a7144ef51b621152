import { percentile } from '../overhead/load.ts';
import { cpuSeconds, untilIdle } from '../overhead/processes.ts';
import { closedLoop, type Load } from './load.ts';
import type { Side } from './sides.ts';
import type { Storage } from './storage.ts';

export interface Measured {
  readonly ids: readonly string[];
  readonly failed: number;
  /** Runs that completed, by the time everything they left behind was done as well. */
  readonly runsPerSecond: number;
  /** Milliseconds from a run's start to its end. */
  readonly p50: number;
  readonly p95: number;
  /** CPU seconds of the side's own processes. */
  readonly cpu: number;
  /** CPU seconds of Postgres. */
  readonly postgresCpu: number;
  /** Bytes that the database, what Postgres wrote ahead and the side's own files grew by. */
  readonly database: number;
  readonly writtenAhead: number;
  readonly files: number;
}

/** What loads cost, as the system counts it. */
export class Meter {
  private readonly postgres: number;
  private readonly storage: Storage;

  /** @param postgres Id of the server's process. */
  constructor(postgres: number, storage: Storage) {
    this.postgres = postgres;
    this.storage = storage;
  }

  /** Lets the side run something in a closed loop. */
  async measure(side: Side, load: Load, run: () => Promise<string> = side.run): Promise<Measured> {
    const stored = await this.storage.of(side);
    const [cpu, postgresCpu] = this.cpuOf(side);
    const { ids, latencies, failed, seconds } = await closedLoop(run, load);
    const afterwards = await untilIdle([...side.pids, this.postgres]);
    const [cpuThen, postgresCpuThen] = this.cpuOf(side);
    const storedThen = await this.storage.of(side);
    return {
      ids,
      failed,
      runsPerSecond: ids.length / (seconds + afterwards),
      p50: percentile(latencies, 0.5),
      p95: percentile(latencies, 0.95),
      cpu: cpuThen - cpu,
      postgresCpu: postgresCpuThen - postgresCpu,
      database: storedThen.database - stored.database,
      writtenAhead: storedThen.writtenAhead - stored.writtenAhead,
      files: storedThen.files - stored.files,
    };
  }

  /** CPU seconds of its own processes and of Postgres so far. */
  private cpuOf({ pids }: Side): readonly [own: number, postgres: number] {
    return [cpuSeconds(pids), cpuSeconds([this.postgres])];
  }
}
