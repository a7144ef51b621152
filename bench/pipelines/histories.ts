import { Client, Connection } from '@temporalio/client';

export interface History {
  readonly events: number;
  readonly bytes: number;
}

/** The histories of runs, as Temporal counts them. */
export class Histories {
  private readonly connection: Connection;
  private readonly client: Client;

  constructor(connection: Connection) {
    this.connection = connection;
    this.client = new Client({ connection });
  }

  static async open(port: number): Promise<Histories> {
    return new Histories(await Connection.connect({ address: `127.0.0.1:${port}` }));
  }

  /** Of the mean run of those. Each has to have one history: they are too short to be continued in another. */
  async mean(ids: readonly string[]): Promise<History> {
    let [events, bytes] = [0, 0];
    for (const id of ids) {
      const { historyLength, historySize = Number.NaN } = await this.client.workflow.getHandle(id).describe();
      events += historyLength / ids.length;
      bytes += historySize / ids.length;
    }
    return { events, bytes };
  }

  close(): Promise<void> {
    return this.connection.close();
  }
}
