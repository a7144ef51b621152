import { createServer } from 'node:net';
import { ConfigError } from '../config/yaml-source.ts';

/** `port` if it can be listened on, or a free one for 0. Throws `ConfigError` naming the setting to change. */
export function freePort(host: string, port: number, setting: string, hint = ''): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'is in use' : `cannot be listened on (${error.code})`;
      reject(new ConfigError(`Port ${port} on ${host} ${reason}. Set ${setting} to another port.${hint}`));
    });
    server.listen(port, host, () => {
      const address = server.address();
      const bound = typeof address === 'object' && address ? address.port : port;
      server.close(() => resolve(bound));
    });
  });
}
