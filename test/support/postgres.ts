import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { connectDatabase, type Sql } from '../../storage/postgres/database.ts';
import { inject } from './inject.ts';

/** Opens the database that `configured` gateways use; to be destroyed by who opened it. */
export const openPostgres = (): Sql =>
  connectDatabase({ url: inject('postgres') ?? inject('embeddedPostgres'), maxConnections: 1, onError: () => {} });

/** A way to the real Postgres that can be cut and mended. */
export class PostgresProxy {
  private readonly sockets = new Set<Socket>();
  private readonly server = createServer((client) => {
    const { hostname, port } = new URL(inject('postgres') ?? '');
    const upstream = connect(Number(port), hostname);
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) {
      this.sockets.add(socket);
      socket.on('error', () => {}).on('close', () => this.sockets.delete(socket));
    }
  });
  private port = 0;

  async start(): Promise<this> {
    await this.mend();
    return this;
  }

  connect(): Sql {
    const url = `postgres://postgres@127.0.0.1:${this.port}/postgres`;
    return connectDatabase({ url, maxConnections: 5, onError: () => {} });
  }

  async cut(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  async mend(): Promise<void> {
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = (this.server.address() as AddressInfo).port;
  }

  stop(): Promise<void> {
    return this.cut();
  }
}
