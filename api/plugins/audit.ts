import type { FastifyRequest, RouteOptions } from 'fastify';
import fp from 'fastify-plugin';
import { HoldfastError } from '../../domain/errors.ts';
import { redact } from '../../domain/redact.ts';
import type { AuditLog } from '../../storage/postgres/audit-log.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the audit log calls it: `<target type>.<verb>`. Every route that changes how the gateway is run has one. */
    audit?: `${string}.${string}`;
  }
}

const RETRY_AFTER_MS = 2_000;

/** Records each change that succeeded before its caller is told; one that cannot be recorded is answered with 503. */
export const audit = fp<{ readonly auditLog: AuditLog }>(
  async (app, { auditLog }) => {
    app.addHook('onRoute', requireAction);
    app.addHook('onSend', async (request, reply, payload) => {
      const action = request.routeOptions.config.audit;
      if (action === undefined || reply.statusCode < 200 || reply.statusCode > 299) return payload;
      try {
        await auditLog.add({
          actor: request.caller.actor,
          actorRoles: request.caller.roles,
          action,
          targetId: targetOf(request, payload),
          changes: changesOf(request.body),
          requestId: request.id,
          ip: request.ip,
        });
      } catch (cause) {
        request.log.error({ err: cause, action }, 'A change was made and could not be written to the audit log');
        const message = 'The change was made and could not be recorded. Read it back before you repeat it.';
        throw new HoldfastError('gateway_unavailable', message, { retryAfterMs: RETRY_AFTER_MS, cause });
      }
      // By which the entry is found again.
      if (!reply.hasHeader('x-request-id')) reply.header('x-request-id', request.id);
      return payload;
    });
  },
  { name: 'audit', dependencies: ['auth'] },
);

const CHANGING = /:(manage|operate|decide)$/;
const READING = new Set(['GET', 'HEAD', 'OPTIONS']);

function requireAction({ method, url, config }: RouteOptions): void {
  const changes = [method].flat().some((verb) => !READING.has(verb)) && CHANGING.test(config?.needs ?? '');
  if (changes && config?.audit === undefined)
    throw new Error(`${method} ${url} must name its action for the audit log.`);
}

/** As JSON: what validation made of a text, such as a date, is a text again. */
const changesOf = (body: unknown): Record<string, unknown> =>
  body === undefined || body === null ? {} : (redact(JSON.parse(JSON.stringify(body))) as Record<string, unknown>);

/** The id in the path, or all that the path names; of what was just made, the id in the answer. */
function targetOf({ params }: FastifyRequest, payload: unknown): string | null {
  const { id, ...rest } = (params ?? {}) as Record<string, unknown>;
  if (typeof id === 'string') return id;
  if (Object.keys(rest).length > 1) return Object.values(rest).join('/');
  const answer = typeof payload === 'string' ? (JSON.parse(payload) as { id?: unknown } | null) : null;
  return typeof answer?.id === 'string' ? answer.id : null;
}
