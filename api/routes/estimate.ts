import { z } from 'zod';
import { BUDGET_KINDS, BUDGET_PERIODS } from '../../domain/budget.ts';
import { chatCompletionBody, withoutNulls } from '../../domain/chat-body.ts';
import { SCOPE_TYPES } from '../../domain/scope.ts';
import { AverageOutputs, estimateRequest } from '../estimate.ts';
import { requiredModel } from '../runs/required-model.ts';
import type { Routes } from './route.ts';

const estimated = z.object({
  /** In the order in which they would be tried. */
  targets: z.array(
    z.object({
      provider: z.string(),
      model: z.string(),
      input_tokens: z.number(),
      output_tokens: z.object({
        expected: z.number(),
        max: z.number(),
        /** Whether the caller said what to expect, the last week's answers did, or nobody. */
        basis: z.enum(['given', 'learned', 'default']),
      }),
      /** null for a model without a price. */
      cost_usd: z.object({ expected: z.number(), max: z.number() }).nullable(),
      context_window: z.number().nullable(),
      fits: z.boolean().nullable(),
    }),
  ),
  budget: z.array(
    z.object({
      scope: z.object({ type: z.enum(SCOPE_TYPES), id: z.string() }),
      period: z.enum(BUDGET_PERIODS),
      kind: z.enum(BUDGET_KINDS),
      remaining_usd: z.number(),
      /** Whether it covers the most that the dearest target can cost. */
      sufficient: z.boolean(),
    }),
  ),
});

/** What a chat completion would cost. */
export const estimate: Routes = async (app, deps) => {
  const averages = new AverageOutputs(deps.costs);
  const schema = {
    summary: 'Estimate the cost of a chat completion without making it',
    description: 'Takes the body of a chat completion. Tokens are counted with a vocabulary close to the vendors’ own.',
    tags: ['costs'],
    body: chatCompletionBody.extend({
      /** Of the whole answer; by default the model's average of the last seven days. */
      expected_output_tokens: z.int().min(0).optional(),
    }),
    response: { 200: estimated },
  };
  app.post(
    '/v1/estimate',
    {
      config: { needs: 'models:call' },
      schema,
      preValidation: async (request) => {
        request.body = withoutNulls(request.body) as typeof request.body;
      },
    },
    async ({ body, caller }) => {
      const { model: named, stream: _, stream_options: __, metadata = {}, expected_output_tokens, ...request } = body;
      const model = requiredModel(named, caller);
      return estimateRequest(deps, averages, { model, request, caller, metadata }, expected_output_tokens);
    },
  );
};
