import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { type IdPrefix, newId } from '../../domain/ids.ts';
import type { Tenant, Tenants, TenantTable, Written } from '../../storage/postgres/tenants.ts';
import { cursor, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const id = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}$/,
    'must be 1 to 128 letters, digits and . _ @ : -, and not start with one',
  );
const name = z.string().min(1).max(200);
const reference = id.nullish();
const described = { id: z.string(), name: z.string(), created_at: z.date(), updated_at: z.date() };
const text = z.string().nullable();

/** One kind of tenant: its path, its settings, and its entity. */
interface Kind<T extends TenantTable> {
  readonly table: T;
  readonly noun: string;
  readonly prefix: IdPrefix;
  readonly settings: z.ZodObject;
  readonly entity: z.ZodObject;
  readonly toJson?: (row: Tenant<T>) => object;
}

const organisations: Kind<'organisations'> = {
  table: 'organisations',
  noun: 'organisation',
  prefix: 'org',
  settings: z.strictObject({ name }),
  entity: z.object(described),
};

const teams: Kind<'teams'> = {
  table: 'teams',
  noun: 'team',
  prefix: 'team',
  settings: z.strictObject({
    name,
    organisation: reference,
    /** Per cent charged on top of what calls cost. */
    markup_percent: z.number().min(0).max(10_000).optional(),
  }),
  entity: z.object({ ...described, organisation: text, markup_percent: z.number() }),
  toJson: (row) => ({ ...row, markup_percent: Number(row.markup_percent) }),
};

const projects: Kind<'projects'> = {
  table: 'projects',
  noun: 'project',
  prefix: 'proj',
  settings: z.strictObject({ name, team: reference }),
  entity: z.object({ ...described, team: text }),
};

const users: Kind<'users'> = {
  table: 'users',
  noun: 'user',
  prefix: 'user',
  settings: z.strictObject({
    name,
    email: z.email().nullish(),
    team: reference,
    roles: z.array(z.string()).optional(),
    is_active: z.boolean().optional(),
  }),
  entity: z.object({ ...described, email: text, team: text, roles: z.array(z.string()), is_active: z.boolean() }),
};

/** Organisations, teams, projects and users. */
export const tenants: Routes = async (app, { tenants }) => {
  for (const kind of [organisations, teams, projects, users])
    register(app, tenants, kind as unknown as Kind<TenantTable>);
};

function register(app: Parameters<Routes>[0], tenants: Tenants, kind: Kind<TenantTable>): void {
  const { table, noun, prefix, settings, entity, toJson = (row) => row } = kind;
  const path = `/api/v1/${table}`;
  const admin = { config: { access: 'admin' as const } };
  const tags = ['tenants'];
  const byId = { params: z.object({ id: z.string() }) };
  const notFound = (missing: string) => new HoldfastError('caller_not_found', `There is no ${noun} '${missing}'.`);

  const create = {
    summary: `Make ${article(noun)} ${noun}`,
    tags,
    body: settings.extend({ id: id.optional() }),
    response: { 201: entity },
  };
  app.post(path, { ...admin, schema: create }, async ({ body }, reply) => {
    const row = written(noun, await tenants.create(table, { id: newId(prefix), ...given(body) } as never));
    return reply.status(201).send(toJson(row) as never);
  });

  const list = {
    summary: `${noun[0]?.toUpperCase()}${noun.slice(1)}s by id`,
    tags,
    querystring: z.object({ limit, cursor }),
    response: { 200: z.object({ data: z.array(entity), next_cursor: text }) },
  };
  app.get(path, { ...admin, schema: list }, async ({ query }) => {
    const rows = await tenants.list(table, query.limit + 1, query.cursor);
    const page = rows.slice(0, query.limit);
    return {
      data: page.map(toJson) as never,
      next_cursor: rows.length > query.limit ? (page.at(-1)?.id ?? null) : null,
    };
  });

  const read = { summary: `One ${noun}`, tags, ...byId, response: { 200: entity } };
  app.get(`${path}/:id`, { ...admin, schema: read }, async ({ params }) => {
    const row = await tenants.get(table, params.id);
    if (!row) throw notFound(params.id);
    return toJson(row) as never;
  });

  const update = {
    summary: `Change ${article(noun)} ${noun}`,
    tags,
    ...byId,
    body: settings.partial(),
    response: { 200: entity },
  };
  app.patch(`${path}/:id`, { ...admin, schema: update }, async ({ params, body }) => {
    const row = written(noun, await tenants.update(table, params.id, given(body) as never));
    if (!row) throw notFound(params.id);
    return toJson(row) as never;
  });

  const remove = { summary: `Delete ${article(noun)} ${noun} that nothing belongs to any more`, tags, ...byId };
  app.delete(`${path}/:id`, { ...admin, schema: remove }, async ({ params }, reply) => {
    const removed = await tenants.remove(table, params.id);
    if (removed === 'conflict') {
      throw new HoldfastError('caller_conflict', `Something still belongs to the ${noun} '${params.id}'.`);
    }
    if (!removed) throw notFound(params.id);
    return reply.status(204).send();
  });
}

const article = (noun: string): string => (/^[aeio]/.test(noun) ? 'an' : 'a');

const given = (body: object): object =>
  Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));

function written<T>(noun: string, result: Written<T>): T {
  if (result === 'conflict')
    throw new HoldfastError('caller_conflict', `There is another ${noun} with this id or email.`);
  if (result === 'missing') {
    throw new HoldfastError(
      'caller_invalid_request',
      `The organisation or team that the ${noun} belongs to does not exist.`,
    );
  }
  return result as T;
}
