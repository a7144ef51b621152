import fp from 'fastify-plugin';
import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';

declare module 'fastify' {
  interface FastifyInstance {
    /** What this process measures of itself. */
    metrics: Registry;
  }
  interface FastifyContextConfig {
    /** The surface whose model calls a route takes; its requests are counted and timed under that name. */
    surface?: string;
  }
}

/** Seconds, up to the default `request_deadline`. */
const BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

/** As proxies note callers who hung up before there was an answer. */
const HUNG_UP = 499;

/** Counts and times the requests of model calls, refused ones too, next to the process's own metrics. */
export const metrics = fp(
  async (app) => {
    // One for each app: a process may have several.
    const registry = new Registry();
    const registers = [registry];
    collectDefaultMetrics({ register: registry });
    const requests = new Counter({
      name: 'holdfast_requests_total',
      help: 'Requests for model calls by the HTTP status of their answer; 499: the caller hung up before it.',
      labelNames: ['surface', 'status'] as const,
      registers,
    });
    const durations = new Histogram({
      name: 'holdfast_request_duration_seconds',
      help: 'Seconds from a request to the last byte of its answer.',
      labelNames: ['surface'] as const,
      buckets: BUCKETS,
      registers,
    });
    app.decorate('metrics', registry);
    app.addHook('onRequest', async (request, reply) => {
      const { surface } = request.routeOptions.config;
      if (surface === undefined) return;
      const stop = durations.startTimer({ surface });
      // `onResponse` leaves out callers who hang up.
      reply.raw.once('close', () => {
        requests.inc({ surface, status: reply.raw.headersSent ? reply.raw.statusCode : HUNG_UP });
        stop();
      });
    });
  },
  { name: 'metrics' },
);
