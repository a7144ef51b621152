import { LRUCache } from 'lru-cache';
import { outputLimit } from '../domain/chat.ts';
import type { CallTarget } from '../domain/model-call.ts';
import { costOf, NO_USAGE, toDollars } from '../domain/money.ts';
import { scopesOf } from '../domain/scope.ts';
import { type CallPlan, type PlannableRequest, planCall } from '../planning/plan.ts';
import { countRequestTokens } from '../providers/tokenizer.ts';
import type { Costs } from '../storage/postgres/costs.ts';
import type { ApiDeps } from './context.ts';

/** How far back the average output of a model is looked at. */
const LEARN_FROM_MS = 7 * 24 * 60 * 60 * 1000;
/** Milliseconds an average is remembered. */
const AVERAGE_TTL_MS = 60_000;
const AVERAGE_CACHE_SIZE = 1_000;
/** Output tokens of a model that was not called lately: a page of text. */
const DEFAULT_OUTPUT_TOKENS = 500;

/** Average output tokens of a model by the ledger. */
export class AverageOutputs {
  private readonly known: LRUCache<string, { readonly tokens: number | undefined }>;

  constructor(costs: Pick<Costs, 'averageOutput'>) {
    this.known = new LRUCache({
      max: AVERAGE_CACHE_SIZE,
      ttl: AVERAGE_TTL_MS,
      fetchMethod: async (name) => {
        const { provider, model } = JSON.parse(name) as Pick<CallTarget, 'provider' | 'model'>;
        return { tokens: await costs.averageOutput(provider, model, new Date(Date.now() - LEARN_FROM_MS)) };
      },
    });
  }

  async of({ provider, model }: CallTarget): Promise<number | undefined> {
    return (await this.known.fetch(JSON.stringify({ provider, model })))?.tokens;
  }
}

/** What a request would cost at each target of its route plan, and whether its budgets cover it. Calls nobody. */
export async function estimateRequest(
  deps: ApiDeps,
  averages: AverageOutputs,
  incoming: PlannableRequest,
  expectedOutputTokens: number | undefined,
) {
  const plan = await planCall(deps, incoming);
  const inputTokens = await countRequestTokens(incoming.request);
  const targets = await Promise.all(
    plan.targets.map(async (target) => {
      const learned = expectedOutputTokens === undefined ? await averages.of(target) : undefined;
      const basis = expectedOutputTokens !== undefined ? 'given' : learned !== undefined ? 'learned' : 'default';
      const expected = Math.ceil(expectedOutputTokens ?? learned ?? DEFAULT_OUTPUT_TOKENS);
      return estimateTarget(deps, incoming, plan, target, { inputTokens, expected, basis } as const);
    }),
  );
  return { targets, budget: await budgetsOf(deps, plan) };
}

interface Tokens {
  readonly inputTokens: number;
  /** Output of the whole call. */
  readonly expected: number;
  readonly basis: 'given' | 'learned' | 'default';
}

function estimateTarget(
  { routing: { table }, providers }: ApiDeps,
  { request }: PlannableRequest,
  { input }: CallPlan,
  { provider, model, maxOutputTokens, outputLimit: injected, price, maxCostNanos }: CallTarget,
  { inputTokens, expected, basis }: Tokens,
) {
  const vendor = providers.get(provider)?.vendor ?? provider;
  const contextWindow = table.catalogue.findAt(vendor, model)?.contextWindow ?? null;
  const limit = outputLimit(request) ?? injected ?? maxOutputTokens;
  const most = limit * (request.n ?? 1);
  const output = Math.min(expected, most);
  const usage = { ...NO_USAGE, inputTokens, outputTokens: output, inputImages: input.images };
  // Providers refuse a request whose own limit does not fit; without one they answer as long as there is room.
  const room = outputLimit(request) ?? Math.ceil(output / (request.n ?? 1));
  return {
    provider,
    model,
    input_tokens: inputTokens,
    output_tokens: { expected: output, max: most, basis },
    cost_usd: price ? { expected: toDollars(costOf(usage, price)), max: toDollars(maxCostNanos) } : null,
    context_window: contextWindow,
    fits: contextWindow === null ? null : inputTokens + room <= contextWindow,
  };
}

/** The budgets of the caller's scopes, held against the most the dearest target can cost: that is what is reserved. */
async function budgetsOf({ budgets }: ApiDeps, { who, targets }: CallPlan) {
  const needed = Math.max(...targets.map(({ maxCostNanos }) => maxCostNanos));
  const found = await budgets.ofScopes(scopesOf(who));
  return found.map(({ scope, period, kind, limitNanos, spentNanos, reservedNanos }) => {
    const remaining = limitNanos - spentNanos - reservedNanos;
    return {
      scope: { ...scope },
      period,
      kind,
      remaining_usd: toDollars(remaining),
      sufficient: remaining >= needed,
    };
  });
}
