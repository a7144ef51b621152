import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import fp from 'fastify-plugin';
import type { LimitStatus, RateLimit } from '../../domain/rate-limit.ts';
import type { Counters } from '../../storage/counters/counters.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The limits that a model call had to fit into; null before it is accepted and on other routes. */
    limits: readonly RateLimit[] | null;
  }
}

export interface RateLimitHeadersOptions {
  readonly counters: Counters;
}

/** Milliseconds an answer waits for its headers. */
const PATIENCE_MS = 250;

/**
 * OpenAI's `x-ratelimit-*` on answers of model calls, refused ones too, by the limit that has least left. Counters that
 * cannot be read leave them out.
 */
export const rateLimitHeaders = fp<RateLimitHeadersOptions>(
  async (app, { counters }) => {
    app.decorateRequest('limits', null);
    app.addHook('onSend', async (request, reply) => {
      const limits = (request.limits ?? []).filter(({ kind }) => kind !== 'concurrent');
      if (limits.length === 0) return;
      const statuses = await Promise.race([
        counters.status(limits).catch(() => undefined),
        sleep(PATIENCE_MS, undefined, { ref: false }),
      ]);
      for (const kind of ['requests', 'tokens'] as const) setHeaders(reply, kind, tightest(statuses ?? [], kind));
    });
  },
  { name: 'rate-limit-headers' },
);

const tightest = (statuses: readonly LimitStatus[], kind: LimitStatus['kind']): LimitStatus | undefined =>
  statuses.filter((status) => status.kind === kind).sort((a, b) => a.remaining - b.remaining)[0];

function setHeaders(reply: FastifyReply, kind: string, status: LimitStatus | undefined): void {
  if (!status) return;
  reply
    .header(`x-ratelimit-limit-${kind}`, status.limit)
    .header(`x-ratelimit-remaining-${kind}`, status.remaining)
    .header(`x-ratelimit-reset-${kind}`, formatDuration(status.resetMs));
}

/** As OpenAI writes durations: `20ms`, `1s`, `6m0s`. */
export function formatDuration(ms: number): string {
  if (ms > 0 && ms < 1000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  return minutes > 0 ? `${minutes}m${seconds % 60}s` : `${seconds}s`;
}
