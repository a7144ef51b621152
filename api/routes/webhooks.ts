import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { toSeconds } from '../../domain/time.ts';
import { DELIVERY_STATES, WEBHOOK_EVENTS } from '../../domain/webhook.ts';
import type { WebhookDelivery } from '../../storage/postgres/webhooks.ts';
import { type AuthenticatedCaller, visibleTo } from '../auth/caller.ts';
import { cursor, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

/** Seconds since the epoch, as OpenAI has it. */
const seconds = z.int();

const delivery = z.object({
  /** Also the `webhook-id` that the receiver gets. */
  id: z.string(),
  object: z.literal('webhook.delivery'),
  run_id: z.string(),
  type: z.enum(WEBHOOK_EVENTS),
  /** Without its query. */
  url: z.string(),
  state: z.enum(DELIVERY_STATES),
  created_at: seconds,
  delivered_at: seconds.nullable(),
  attempts: z.array(
    z.object({
      n: z.int(),
      at: seconds,
      status: z.int().nullable(),
      error: z.string().nullable(),
      latency_ms: z.int(),
    }),
  ),
});

/** What receivers were told about runs, and how that went. */
export const webhooks: Routes = async (app, { webhooks, webhookRuns, storedRuns }) => {
  const needs = 'models:call';
  const tags = ['jobs'];
  const byId = { params: z.object({ id: z.string() }) };
  const find = async (id: string, caller: AuthenticatedCaller): Promise<z.infer<typeof delivery>> => {
    const found = await webhooks.get(id, visibleTo(caller));
    if (found) return toJson(found);
    throw new HoldfastError('caller_not_found', `There is no webhook delivery '${id}'.`);
  };

  const list = {
    summary: 'Webhook deliveries of a run, newest first',
    tags,
    ...byId,
    querystring: z.object({ limit, cursor }),
    response: { 200: z.object({ data: z.array(delivery), next_cursor: z.string().nullable() }) },
  };
  app.get('/v1/jobs/:id/webhooks', { config: { needs }, schema: list }, async ({ params, query, caller }) => {
    if (!(await storedRuns.find(params.id, visibleTo(caller)))) {
      throw new HoldfastError('caller_not_found', `There is no job '${params.id}'.`);
    }
    const page = { runId: params.id, visible: visibleTo(caller), limit: query.limit + 1, cursor: query.cursor };
    const rows = await webhooks.list(page);
    const data = rows.slice(0, query.limit).map(toJson);
    return { data, next_cursor: rows.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = { summary: 'One webhook delivery', tags, ...byId, response: { 200: delivery } };
  app.get('/v1/webhooks/deliveries/:id', { config: { needs }, schema: read }, ({ params, caller }) =>
    find(params.id, caller),
  );

  const resend = {
    summary: 'Send a webhook again, with the same id and payload',
    description: 'Also one that was delivered. 409 while it is under way.',
    tags,
    ...byId,
    response: { 202: delivery },
  };
  app.post(
    '/v1/webhooks/deliveries/:id/resend',
    { config: { needs }, schema: resend },
    async ({ params, caller }, reply) => {
      const { id } = await find(params.id, caller);
      await webhookRuns.start(id, await webhooks.resend(id));
      return reply.status(202).send(await find(id, caller));
    },
  );
};

const toJson = ({ runId, createdAt, deliveredAt, attempts, ...rest }: WebhookDelivery): z.infer<typeof delivery> => ({
  ...rest,
  object: 'webhook.delivery',
  run_id: runId,
  created_at: toSeconds(createdAt),
  delivered_at: deliveredAt && toSeconds(deliveredAt),
  attempts: attempts.map(({ at, latencyMs, ...attempt }) => ({ ...attempt, at: toSeconds(at), latency_ms: latencyMs })),
});
