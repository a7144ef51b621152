import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { RUN_STATES } from '../../domain/run-state.ts';
import { visibleTo } from '../auth/caller.ts';
import { cursor, instant, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const count = z.number().nullable();
const text = z.string().nullable();

const entry = z.object({
  id: z.string(),
  run_id: z.string(),
  request_id: z.string(),
  virtual_key_id: text,
  team: text,
  project: text,
  user_id: text,
  prompt: z.string(),
  template_id: text,
  model_requested: z.string(),
  model_used: text,
  provider_used: text,
  parameters: z.record(z.string(), z.unknown()),
  timestamp: z.date(),
  state: z.enum(RUN_STATES),
  status: z.enum(['success', 'failure', 'fallback']).nullable(),
  latency_ms: count,
  cost_usd: z.number(),
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  error_code: text,
  error_message: text,
  completed_at: z.date().nullable(),
  attempts: z.array(
    z.object({
      target: z.string(),
      n: z.number(),
      state: z.string(),
      error: text,
      key: text,
      latency_ms: count,
      prompt_tokens: count,
      completion_tokens: count,
      cached_tokens: count,
      reasoning_tokens: count,
      usage_estimated: z.boolean(),
      cost_usd: z.number(),
    }),
  ),
});

export const logs: Routes = async (app, { ledger }) => {
  const list = {
    summary: 'The ledger, newest first',
    tags: ['ledger'],
    querystring: z.object({
      limit,
      cursor,
      key: z.string().optional(),
      team: z.string().optional(),
      model: z.string().optional(),
      status: z.enum(['success', 'failure', 'fallback']).optional(),
      since: instant.optional(),
    }),
    response: { 200: z.object({ data: z.array(entry), next_cursor: text }) },
  };
  app.get('/logs', { config: { needs: 'ledger:read' }, schema: list }, async ({ query, caller }) => {
    const rows = await ledger.list({ ...query, visible: visibleTo(caller), limit: query.limit + 1 });
    const data = rows.slice(0, query.limit) as unknown as z.infer<typeof entry>[];
    return { data, next_cursor: rows.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const one = {
    summary: 'One request with its attempts',
    tags: ['ledger'],
    params: z.object({ id: z.string() }),
    response: { 200: entry },
  };
  app.get('/logs/:id', { config: { needs: 'ledger:read' }, schema: one }, async ({ params, caller }) => {
    const row = await ledger.get(params.id, visibleTo(caller));
    if (!row) throw new HoldfastError('caller_not_found', `There is no request '${params.id}'.`);
    return row as unknown as z.infer<typeof entry>;
  });
};
