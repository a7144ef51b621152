import websocket from '@fastify/websocket';
import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { visibleTo } from '../auth/caller.ts';
import { isFor, toJobEvent } from '../runs/jobs/job-events.ts';
import { KEEPALIVE_MS } from '../runs/server-sent-events.ts';
import type { Routes } from './route.ts';

/** What any run does, over a WebSocket: a message `{ id, event, data }` for each event, until its last state. */
export const executions: Routes = async (app, deps) => {
  await app.register(websocket);
  app.get(
    '/ws/executions/:id',
    {
      websocket: true,
      config: { needs: 'models:call' },
      schema: {
        summary: 'What a run does, over a WebSocket',
        description: '`starting_after` resumes after an event. The connection is closed after the run’s last state.',
        tags: ['workflows'],
        params: z.object({ id: z.string() }),
        querystring: z.object({ starting_after: z.coerce.number().int().min(0).optional() }),
      },
      // Before the connection becomes a WebSocket, so that the answer is one of HTTP.
      preHandler: async ({ params, caller }) => {
        const run = await deps.storedRuns.find(params.id, visibleTo(caller));
        if (!run) throw new HoldfastError('caller_not_found', `There is no run '${params.id}'.`);
      },
    },
    async (socket, { params, query, log }) => {
      const gone = new AbortController();
      socket.once('close', () => gone.abort());
      socket.on('error', () => gone.abort());
      const keepalive = setInterval(() => socket.ping(), KEEPALIVE_MS);
      try {
        for await (const entry of deps.journal.subscribe(params.id, 0, gone.signal)) {
          const told = isFor(query.starting_after ?? -1, entry) && toJobEvent(entry);
          if (told) socket.send(JSON.stringify(told));
        }
        socket.close(NORMAL);
      } catch (error) {
        log.warn({ err: error, run: params.id }, 'The events of a run cannot be read');
        socket.close(TRY_AGAIN_LATER);
      } finally {
        clearInterval(keepalive);
      }
    },
  );
};

/** Close codes of RFC 6455 and its registry. */
const NORMAL = 1000;
const TRY_AGAIN_LATER = 1013;
