import type { Logger } from 'pino';
import { LEASE_MS, type Processes } from '../storage/postgres/processes.ts';

/** Three signs of life fit into a lease, so that one lost statement does not cost it. */
const RENEW_MS = LEASE_MS / 3;

/** Keeps this process's claims on provider calls alive. */
export class Lease {
  private timer: NodeJS.Timeout | undefined;
  private readonly processes: Processes;
  private readonly processId: string;
  private readonly logger: Logger;

  constructor(processes: Processes, processId: string, logger: Logger) {
    this.processes = processes;
    this.processId = processId;
    this.logger = logger;
  }

  async start(): Promise<void> {
    await this.processes.renew(this.processId);
    this.timer = setInterval(() => {
      this.processes.renew(this.processId).catch((error: unknown) => {
        this.logger.warn({ err: error }, 'The lease on running calls could not be renewed');
      });
    }, RENEW_MS);
  }

  /** Once nothing is in flight any more. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.processes.remove(this.processId);
  }
}
