import type { Caller } from '../domain/caller.ts';
import { requirementsOf } from '../domain/capabilities.ts';
import { pricedAt } from '../domain/catalogue.ts';
import type { ModelRequest } from '../domain/chat.ts';
import { boundCall, boundInput, type InputBound } from '../domain/cost-bound.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { CallTarget } from '../domain/model-call.ts';
import type { NanoDollars } from '../domain/money.ts';
import { planRoute, type RouteTarget, type RoutingTable } from '../domain/route-plan.ts';
import type { Attribution } from '../domain/scope.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { Policies, Policy } from '../storage/postgres/policies.ts';
import type { LiveRouting } from './live-routing.ts';

export interface PlanningDeps {
  readonly routing: Pick<LiveRouting, 'table' | 'settings'>;
  readonly providers: ProviderRegistry;
  readonly policies: Policies;
}

/** What is asked for, by whom; what a request has in common with an estimate of it. */
export interface PlannableRequest {
  readonly model: string | undefined;
  readonly provider?: string | undefined;
  readonly request: ModelRequest;
  readonly caller: Caller;
  /** Attribution by the caller; a key's own attributes win. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The most a call may cost; the output limit is set accordingly. */
  readonly maxCostNanos?: NanoDollars | undefined;
}

/** A request's route plan with prices and bounds, and what applies to it. */
export interface CallPlan {
  readonly model: string | undefined;
  readonly who: Attribution;
  readonly policy: Policy;
  readonly input: InputBound;
  readonly targets: readonly CallTarget[];
  readonly priceVersion: string;
}

/** Plans a request at the prices of this moment. Throws when it cannot be accepted. */
export async function planCall(deps: PlanningDeps, incoming: PlannableRequest): Promise<CallPlan> {
  const { table } = deps.routing;
  const model = incoming.model ?? incoming.caller.key?.defaultModel ?? undefined;
  const input = boundInput(incoming.request);
  const planned = permittedTargets(table, incoming, model);
  const who = attribute(incoming);
  const policy = await deps.policies.of(who, modelNamesOf(planned));
  const targets = toCallTargets(deps, incoming, planned, input, policy);
  const { priceDate: priceVersion } = table.catalogue;
  return { model, who: { ...who, organisation: policy.organisation }, policy, input, targets, priceVersion };
}

/** A model may be limited under its name in the catalogue or under a provider's own id of it. */
const modelNamesOf = (planned: readonly RouteTarget[]): readonly string[] => [
  ...new Set(planned.flatMap(({ model, catalogued }) => (catalogued ? [model, catalogued.id] : [model]))),
];

/** The route plan, reduced to what the caller's key may use. */
function permittedTargets(
  table: RoutingTable,
  incoming: PlannableRequest,
  model: string | undefined,
): readonly RouteTarget[] {
  const { request, provider, caller } = incoming;
  const allowed = caller.key?.allowedModels;
  const zone = caller.key?.privacyZone ?? undefined;
  const plan = () => planRoute(table, { model, provider, zone, requirements: requirementsOf(request) });
  if (!allowed) return plan();
  if (model !== undefined && allowed.includes(model)) {
    // An alias was allowed as a whole; a model brings its namesakes at other providers, but no substitutes.
    if (table.aliases.has(model)) return plan();
    const targets = plan();
    return targets.filter((target) => target.catalogued === targets[0]?.catalogued || isNamed(target, allowed));
  }
  const targets = plan().filter((target) => isNamed(target, allowed));
  if (targets.length > 0) return targets;
  throw new HoldfastError('policy_model_not_allowed', `This key may not use the model '${model ?? 'default'}'.`, {
    param: 'model',
  });
}

const isNamed = ({ provider, model, catalogued }: RouteTarget, allowed: readonly string[]): boolean =>
  allowed.includes(model) || allowed.includes(`${provider}/${model}`) || allowed.includes(catalogued?.id ?? model);

function toCallTargets(
  { providers, routing }: PlanningDeps,
  { request, maxCostNanos }: PlannableRequest,
  planned: readonly RouteTarget[],
  input: InputBound,
  { hardBudget }: Policy,
): readonly CallTarget[] {
  const { unpriced_models } = routing.settings.budgets;
  const capped = hardBudget || maxCostNanos !== undefined;
  const refused = unpriced_models === 'refuse' || (capped && unpriced_models !== 'allow');
  const usable = refused ? planned.filter((target) => target.catalogued) : planned;
  if (usable.length === 0) throw notPriced(planned[0]?.model ?? '', capped);
  const now = Date.now();
  return usable.map(({ provider, model, catalogued: current }) => {
    const catalogued = current && pricedAt(current, now);
    const adapter = providers.get(provider);
    const bound = boundCall(request, input, catalogued, { hardBudget, maxCostNanos });
    return {
      provider,
      model,
      maxAttempts: adapter?.maxAttempts ?? 1,
      timeoutMs: adapter?.timeoutMs ?? 0,
      ...(bound.injectedOutputLimit !== undefined && { outputLimit: bound.injectedOutputLimit }),
      maxOutputTokens: catalogued?.maxOutputTokens ?? DEFAULT_MAX_OUTPUT_TOKENS,
      price: catalogued?.price ?? null,
      maxCostNanos: bound.maxCostNanos,
    };
  });
}

const notPriced = (model: string, capped: boolean) =>
  new HoldfastError(
    'policy_model_not_priced',
    `'${model}' has no price in the catalogue${capped ? ', so a limit of its cost cannot be kept' : ''}. ` +
      'Add it with GATEWAY_MODELS or PUT /api/v1/models.',
    { param: 'model' },
  );

/** For APIs that demand a limit, where neither the caller nor the catalogue names one. */
const DEFAULT_MAX_OUTPUT_TOKENS = 4_096;

const MAX_ATTRIBUTE_LENGTH = 200;

/** A text of the caller's metadata that says whom or what a request is for. */
export const attributeText = (value: unknown): string | null =>
  typeof value === 'string' && value ? value.slice(0, MAX_ATTRIBUTE_LENGTH) : null;

/** For whom a request counts: as its key says, and where the caller is trusted with it, as its metadata says. */
export function attribute({
  caller,
  metadata,
}: Pick<PlannableRequest, 'caller' | 'metadata'>): Omit<Attribution, 'organisation'> {
  const { kind, keyId, team, project, user, key } = caller;
  const trusted = kind === 'master' || kind === 'client' || key?.kind === 'service';
  const said = trusted ? metadata : {};
  return {
    keyId,
    team: team ?? attributeText(said.team),
    project: project ?? attributeText(said.project),
    user: user ?? attributeText(said.user),
  };
}
