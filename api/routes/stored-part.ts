import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { LiveRouting } from '../../planning/live-routing.ts';
import type { OverlayPart } from '../../storage/postgres/overlays.ts';
import type { ApiDeps } from '../context.ts';

/** A part of gateway.yaml that operators can store another one over. */
export interface StoredPart<Body extends z.ZodObject, InForce extends z.ZodObject> {
  readonly path: string;
  readonly part: OverlayPart;
  /** What it is called in the API's description. */
  readonly name: string;
  readonly tags: readonly string[];
  /** What the audit log calls it. */
  readonly target: string;
  readonly body: Body;
  readonly inForce: InForce;
  /** Throws where the body is about something that is not there. */
  readonly check?: (body: z.output<Body>) => void;
  readonly read: (routing: LiveRouting) => z.input<InForce>;
}

/** GET what is in force, PUT what is stored over gateway.yaml, DELETE to go back to it. */
export function serveStoredPart<Body extends z.ZodObject, InForce extends z.ZodObject>(
  app: FastifyInstance,
  { routing, overlays }: Pick<ApiDeps, 'routing' | 'overlays'>,
  { path, part, name, tags, target, body, inForce, check, read }: StoredPart<Body, InForce>,
): void {
  const needs = 'settings:manage';
  const response = {
    200: inForce.extend({
      /** Sections that are stored; the others are gateway.yaml's. */
      stored: z.array(z.string()),
    }),
  };
  const answer = () => ({ ...read(routing), stored: Object.keys(routing.stored[part] ?? {}) });
  const store = async (value: object | null) => {
    await overlays.put(part, value);
    await routing.refresh();
  };

  app.get(path, { config: { needs }, schema: { summary: `${name} as in force`, tags, response } }, answer);

  const put = {
    summary: `Store ${name.toLowerCase()} over gateway.yaml`,
    description:
      'A section that is given replaces gateway.yaml’s as a whole, one that is left out is gateway.yaml’s again. ' +
      'Every process goes by it within a second.',
    tags,
    body,
    response,
  };
  app.put(path, { config: { needs, audit: `${target}.put` as const }, schema: put }, async (request) => {
    // Validated by the schema above.
    const wanted = request.body as z.output<Body>;
    check?.(wanted);
    await store(wanted);
    return answer();
  });

  const remove = { summary: `Go back to gateway.yaml’s ${name.toLowerCase()}`, tags };
  app.delete(
    path,
    { config: { needs, audit: `${target}.delete` as const }, schema: remove },
    async (_request, reply) => {
      await store(null);
      return reply.status(204).send();
    },
  );
}
