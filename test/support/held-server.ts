import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** Stands before a server and can keep what its clients send for a while. */
export class HeldServer {
  private readonly sockets = new Set<Socket>();
  private holding = false;
  private port = 0;
  private readonly server;

  /** @param address `host:port` of the server behind. */
  constructor(address: string) {
    const [host = '', port] = address.split(':');
    this.server = createServer((client) => {
      const behind = connect(Number(port), host);
      for (const [from, to] of [
        [client, behind],
        [behind, client],
      ] as const) {
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
      }
      behind.pipe(client);
      client.on('data', (data) => void behind.write(data));
      if (this.holding) client.pause();
      this.sockets.add(client);
      client.on('close', () => this.sockets.delete(client));
    });
  }

  /** Resolves with the address to use instead of the server's. */
  start(): Promise<string> {
    return new Promise((resolve) => {
      this.server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${(this.server.address() as AddressInfo).port}`));
    });
  }

  hold(): void {
    this.holding = true;
    for (const socket of this.sockets) socket.pause();
  }

  release(): void {
    this.holding = false;
    for (const socket of this.sockets) socket.resume();
  }

  /** Breaks all connections and takes no new ones, until `mend`. */
  async cut(): Promise<void> {
    this.port = (this.server.address() as AddressInfo).port;
    await this.stop();
  }

  mend(): Promise<void> {
    return new Promise((resolve) => this.server.listen(this.port, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
