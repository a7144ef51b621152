import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { ConfigError } from '../config/yaml-source.ts';

/** `port` if it can be listened on, or a free one for 0. Throws `ConfigError` naming the setting to change. */
export async function availablePort(host: string, port: number, setting: string, hint = ''): Promise<number> {
  try {
    return await (port === 0 ? freePort(host) : listenOnce(host, port));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'EADDRINUSE' ? 'is in use' : `cannot be listened on (${code})`;
    throw new ConfigError(`Port ${port} on ${host} ${reason}. Set ${setting} to another port.${hint}`);
  }
}

/**
 * A port for a server that is about to start. It has had a connection that this side closed, which it remembers for a
 * minute: meanwhile the system gives it to nobody who asks for any port, though who asks for this one gets it.
 */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, 'connection');
  const client = connect({ host, port });
  const [[socket]] = await Promise.all([accepted, once(client, 'connect')]);
  socket.end();
  client.resume();
  await once(client, 'end');
  client.end();
  await Promise.all([once(socket.resume(), 'close'), once(server.close(), 'close')]);
  return port;
}

async function listenOnce(host: string, port: number): Promise<number> {
  const server = createServer().listen(port, host);
  await once(server, 'listening');
  await once(server.close(), 'close');
  return port;
}
