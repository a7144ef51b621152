import { z } from 'zod';
import { cursor, instant, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const entry = z.object({
  id: z.string(),
  at: z.date(),
  /** `master`, the id of a key, `user:…` or `client:…`. */
  actor: z.string(),
  actor_roles: z.array(z.string()),
  action: z.string(),
  target_type: z.string(),
  target_id: z.string().nullable(),
  changes: z.record(z.string(), z.unknown()),
  request_id: z.string(),
  ip: z.string(),
});

/** Who changed what. */
export const auditLog: Routes = async (app, { auditLog }) => {
  const list = {
    summary: 'Changes by administrators, newest first',
    tags: ['access'],
    querystring: z.object({
      limit,
      cursor,
      actor: z.string().optional(),
      action: z.string().optional(),
      /** Id of what was changed. */
      target: z.string().optional(),
      since: instant.optional(),
    }),
    response: { 200: z.object({ data: z.array(entry), next_cursor: z.string().nullable() }) },
  };
  app.get('/api/v1/audit-log', { config: { needs: 'audit:read' }, schema: list }, async ({ query }) => {
    const rows = await auditLog.list({ ...query, limit: query.limit + 1 });
    const data = rows.slice(0, query.limit).map((row) => ({ ...row, actor_roles: [...row.actor_roles] }));
    return { data, next_cursor: rows.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });
};
