import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import type { FastifyInstance } from 'fastify';

const SWEEP_MS = 50;

/**
 * Prepares a front door for an orderly end. The returned function stops listening, waits for running requests, and ends
 * every connection without one, also those that never sent any, which Node does not count as idle. Requests that
 * outlast `graceMs` lose their connection, not their run.
 */
export function prepareDrain(app: FastifyInstance, graceMs: number): () => Promise<void> {
  const quiet = trackQuietConnections(app.server);
  return async () => {
    const closed = app.close();
    const sweep = setInterval(() => {
      for (const socket of quiet) socket.destroy();
    }, SWEEP_MS);
    const giveUp = setTimeout(() => app.server.closeAllConnections(), graceMs);
    await closed;
    clearInterval(sweep);
    clearTimeout(giveUp);
  };
}

/** The connections that have no request under way, kept up to date. */
function trackQuietConnections(server: Server): ReadonlySet<Socket> {
  const quiet = new Set<Socket>();
  // With TLS a request's socket is not the one that connected.
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', (socket: Socket) => {
    quiet.add(socket);
    socket.once('close', () => quiet.delete(socket));
  });
  server.on('request', ({ socket }, response) => {
    quiet.delete(socket);
    response.once('close', () => {
      if (!socket.destroyed) quiet.add(socket);
    });
  });
  return quiet;
}
