import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { SCOPE_TYPES } from '../../domain/scope.ts';
import type { LimitedScope } from '../../storage/postgres/rate-limits.ts';
import { cursor, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const scopeType = z.enum([...SCOPE_TYPES, 'model']);
const count = z.int().positive().max(2_147_483_647).nullish();

/** One row holds all limits of a scope: what is left out is not limited. */
const settings = z
  .strictObject({ requests_per_minute: count, tokens_per_minute: count, concurrent_requests: count })
  .refine((limits) => Object.values(limits).some((value) => value != null), 'at least one limit is needed');

const entity = z.object({
  scope_type: scopeType,
  scope_id: z.string(),
  requests_per_minute: z.number().nullable(),
  tokens_per_minute: z.number().nullable(),
  concurrent_requests: z.number().nullable(),
  created_at: z.date(),
  updated_at: z.date(),
});

type Entity = z.infer<typeof entity>;

/** Limits of keys, users, teams, projects, organisations, and of a model for everybody. */
export const rateLimits: Routes = async (app, { rateLimits }) => {
  const needs = 'budgets:manage';
  const byScope = { params: z.object({ scope_type: scopeType, scope_id: z.string().min(1).max(200) }) };
  const path = '/api/v1/rate-limits/:scope_type/:scope_id';
  const tags = ['rate limits'];

  const list = {
    summary: 'Rate limits by scope',
    tags,
    querystring: z.object({ scope_type: scopeType.optional(), scope_id: z.string().optional(), limit, cursor }),
    response: { 200: z.object({ data: z.array(entity), next_cursor: z.string().nullable() }) },
  };
  app.get('/api/v1/rate-limits', { config: { needs }, schema: list }, async ({ query }) => {
    const filter = { type: query.scope_type, id: query.scope_id };
    const rows = await rateLimits.list(filter, query.limit + 1, positionOf(query.cursor));
    const data = rows.slice(0, query.limit) as Entity[];
    const last = rows.length > query.limit ? data.at(-1) : undefined;
    return { data, next_cursor: last ? `${last.scope_type}/${last.scope_id}` : null };
  });

  const put = { summary: 'Set the limits of a scope', tags, ...byScope, body: settings, response: { 200: entity } };
  app.put(path, { config: { needs, audit: 'rate_limit.set' }, schema: put }, async ({ params, body }) => {
    const scope = scopeOf(params);
    await rateLimits.set(scope, {
      requestsPerMinute: body.requests_per_minute ?? null,
      tokensPerMinute: body.tokens_per_minute ?? null,
      concurrentRequests: body.concurrent_requests ?? null,
    });
    return (await rateLimits.get(scope)) as Entity;
  });

  const remove = { summary: 'Remove the limits of a scope', tags, ...byScope };
  app.delete(path, { config: { needs, audit: 'rate_limit.delete' }, schema: remove }, async ({ params }, reply) => {
    if (await rateLimits.remove(scopeOf(params))) return reply.status(204).send();
    const { scope_type, scope_id } = params;
    throw new HoldfastError('caller_not_found', `There are no rate limits of the ${scope_type} '${scope_id}'.`);
  });
};

const scopeOf = (params: { scope_type: LimitedScope['type']; scope_id: string }): LimitedScope => ({
  type: params.scope_type,
  id: params.scope_id,
});

/** A cursor is the last row's `scope_type/scope_id`. */
function positionOf(cursor: string | undefined) {
  if (cursor === undefined) return undefined;
  const slash = cursor.indexOf('/');
  return { type: cursor.slice(0, slash), id: cursor.slice(slash + 1) };
}
