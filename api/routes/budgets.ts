import { z } from 'zod';
import { BUDGET_KINDS, BUDGET_PERIODS } from '../../domain/budget.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { fromDollars, toDollars } from '../../domain/money.ts';
import { SCOPE_TYPES } from '../../domain/scope.ts';
import type { Budget } from '../../storage/postgres/budgets.ts';
import { cursor, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const limitUsd = z.number().min(0).max(1_000_000_000);
const scope = z.strictObject({ type: z.enum(SCOPE_TYPES), id: z.string().min(1).max(200) });

const budget = z.object({
  id: z.string(),
  scope,
  period: z.enum(BUDGET_PERIODS),
  kind: z.enum(BUDGET_KINDS),
  limit_usd: z.number(),
  spent_usd: z.number(),
  reserved_usd: z.number(),
  /** When the running period ends; null for a total budget. */
  resets_at: z.date().nullable(),
  created_at: z.date(),
  updated_at: z.date(),
});

/** Budgets: `hard` ones refuse what could pass them, `soft` ones only warn. */
export const budgets: Routes = async (app, { budgets }) => {
  const admin = { config: { access: 'admin' as const } };
  const tags = ['budgets'];
  const byId = { params: z.object({ id: z.string() }) };
  const found = (made: Budget | undefined, id: string): z.infer<typeof budget> => {
    if (made) return toJson(made);
    throw new HoldfastError('caller_not_found', `There is no budget '${id}'.`);
  };

  const create = {
    summary: 'Make a budget; what its period spent already counts',
    tags,
    body: z.strictObject({
      scope,
      period: z.enum(BUDGET_PERIODS).default('monthly'),
      kind: z.enum(BUDGET_KINDS).default('hard'),
      limit_usd: limitUsd,
    }),
    response: { 201: budget },
  };
  app.post('/api/v1/budgets', { ...admin, schema: create }, async ({ body }, reply) => {
    const { limit_usd, ...rest } = body;
    const made = await budgets.create({ ...rest, limitNanos: fromDollars(limit_usd) });
    if (made) return reply.status(201).send(toJson(made));
    const { scope, kind, period } = body;
    throw new HoldfastError(
      'caller_conflict',
      `The ${scope.type} '${scope.id}' has a ${kind} ${period} budget already.`,
    );
  });

  const list = {
    summary: 'Budgets, oldest first',
    tags,
    querystring: z.object({
      limit,
      cursor,
      scope_type: z.enum(SCOPE_TYPES).optional(),
      scope_id: z.string().optional(),
    }),
    response: { 200: z.object({ data: z.array(budget), next_cursor: z.string().nullable() }) },
  };
  app.get('/api/v1/budgets', { ...admin, schema: list }, async ({ query }) => {
    const filter = { scopeType: query.scope_type, scopeId: query.scope_id };
    const rows = await budgets.list(filter, query.limit + 1, query.cursor);
    const data = rows.slice(0, query.limit).map(toJson);
    return { data, next_cursor: rows.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = { summary: 'One budget', tags, ...byId, response: { 200: budget } };
  app.get('/api/v1/budgets/:id', { ...admin, schema: read }, async ({ params }) =>
    found(await budgets.get(params.id), params.id),
  );

  const update = {
    summary: 'Change a budget’s limit',
    tags,
    ...byId,
    body: z.strictObject({ limit_usd: limitUsd }),
    response: { 200: budget },
  };
  app.patch('/api/v1/budgets/:id', { ...admin, schema: update }, async ({ params, body }) =>
    found(await budgets.update(params.id, fromDollars(body.limit_usd)), params.id),
  );

  const remove = { summary: 'Delete a budget', tags, ...byId };
  app.delete('/api/v1/budgets/:id', { ...admin, schema: remove }, async ({ params }, reply) => {
    if (!(await budgets.remove(params.id)))
      throw new HoldfastError('caller_not_found', `There is no budget '${params.id}'.`);
    return reply.status(204).send();
  });
};

const toJson = (made: Budget): z.infer<typeof budget> => ({
  id: made.id,
  scope: { ...made.scope },
  period: made.period,
  kind: made.kind,
  limit_usd: toDollars(made.limitNanos),
  spent_usd: toDollars(made.spentNanos),
  reserved_usd: toDollars(made.reservedNanos),
  resets_at: made.resetsAt,
  created_at: made.createdAt,
  updated_at: made.updatedAt,
});
