import { z } from 'zod';
import { USAGE_GROUPS, type UsageGroup } from '../../storage/postgres/ledger.ts';
import { visibleTo } from '../auth/caller.ts';
import { instant } from '../schemas/common.ts';
import type { Routes } from './route.ts';

export const usage: Routes = async (app, { ledger }) => {
  const schema = {
    summary: 'Requests, tokens and cost by group',
    tags: ['ledger'],
    querystring: z.object({
      group_by: z.enum(Object.keys(USAGE_GROUPS) as [UsageGroup, ...UsageGroup[]]).default('model'),
      since: instant.optional(),
      until: instant.optional(),
      key: z.string().optional(),
      team: z.string().optional(),
      model: z.string().optional(),
    }),
    response: {
      200: z.object({
        data: z.array(
          z.object({
            group: z.string().nullable(),
            requests: z.number(),
            failures: z.number(),
            prompt_tokens: z.number(),
            completion_tokens: z.number(),
            cost_usd: z.number(),
          }),
        ),
      }),
    },
  };
  app.get(
    '/metrics/usage',
    { config: { needs: 'ledger:read' }, schema },
    async ({ query: { group_by, ...filter }, caller }) => {
      const rows = await ledger.usage(group_by, { ...filter, visible: visibleTo(caller) });
      return { data: [...rows] };
    },
  );
};
