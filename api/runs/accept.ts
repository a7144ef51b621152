import { requirementsOf } from '../../domain/capabilities.ts';
import { pricedAt } from '../../domain/catalogue.ts';
import { type ModelRequest, textOf } from '../../domain/chat.ts';
import { boundCall, boundInput, type InputBound } from '../../domain/cost-bound.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { IdPrefix } from '../../domain/ids.ts';
import { newId } from '../../domain/ids.ts';
import type { AdmissionRequest, CallTarget } from '../../domain/model-call.ts';
import { type AdmissionTerms, type LimitKind, limitName, type RateLimit } from '../../domain/rate-limit.ts';
import { planRoute, type RouteTarget, type RoutingTable } from '../../domain/route-plan.ts';
import type { Attribution, Scope } from '../../domain/scope.ts';
import type { Policy, ScopeLimits } from '../../storage/postgres/policies.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import type { AuthenticatedCaller } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';

/** A validated request on its way in. */
export interface IncomingRequest {
  /** `chat.completions` or `generate`. */
  readonly surface: string;
  readonly idPrefix: IdPrefix;
  readonly model: string | undefined;
  readonly provider?: string | undefined;
  readonly request: ModelRequest;
  readonly stream: boolean;
  readonly caller: AuthenticatedCaller;
  /** `x-request-id`, if the caller sent one. */
  readonly requestId: string | undefined;
  /** Attribution by the caller; a key's own attributes win. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly terms: AdmissionTerms;
}

/** A request the gateway has taken responsibility for: committed in Postgres and acknowledged by Temporal. */
export interface AcceptedRun {
  readonly id: string;
  readonly requestId: string;
  /** Seconds since the epoch. */
  readonly created: number;
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  /** The limits it has to fit into. */
  readonly limits: readonly RateLimit[];
}

/** Plans, stores and starts a request. Throws when it cannot be accepted; nothing runs then. */
export async function acceptRun(deps: ApiDeps, incoming: IncomingRequest): Promise<AcceptedRun> {
  const { caller, request, stream } = incoming;
  const { gateway } = deps.config;
  const { model, who, policy, input, targets, priceVersion } = await planCall(deps, incoming);
  const id = newId(incoming.idPrefix);
  const requestId = incoming.requestId ?? id;
  const modelRequested = model ?? targets[0]?.model ?? '';
  const body = deps.bodies.seal(request);
  const now = Date.now();
  const deadlineAt = now + gateway.server.request_deadline * 1000;

  await deps.requests.insert({
    id,
    runId: id,
    requestId,
    owner: caller.owner,
    attribution: who,
    feature: text(incoming.metadata.feature),
    markupPercent: policy.markupPercent,
    surface: incoming.surface,
    modelRequested,
    prompt: preview(request, gateway.logging.prompt_preview),
    parameters: { ...parametersOf(request), stream, metadata: incoming.metadata },
    body,
  });
  const admission = { ...toAdmission(deps, caller, targets, input, policy, priceVersion), ...incoming.terms };
  const call = {
    requestId: id,
    bodyRef: body.ref,
    stream,
    resumable: incoming.requestId !== undefined,
    targets,
    keyScope: { virtualKeyId: caller.keyId, team: caller.team },
    retryDelayMs: gateway.retry.retry_delay * 1000,
    deadlineAt,
    admission,
    tenant: caller.owner,
  };
  try {
    await deps.runs.start({ id, call, team: who.team, keyName: caller.key?.name ?? caller.actor, modelRequested });
  } catch (error) {
    // A start that comes through after all finds the request settled and calls nobody.
    const info = error instanceof HoldfastError ? error.info : undefined;
    await settle(deps.db, { requestId: id, state: 'failed', ...(info && { error: info }) }).catch(() => {});
    throw error;
  }
  return { id, requestId, created: Math.floor(now / 1000), deadlineAt, limits: admission.limits };
}

/** A model may be limited under its name in the catalogue or under a provider's own id of it. */
const modelNamesOf = (planned: readonly RouteTarget[]): readonly string[] => [
  ...new Set(planned.flatMap(({ model, catalogued }) => (catalogued ? [model, catalogued.id] : [model]))),
];

/** What is asked for, by whom; what a request has in common with an estimate of it. */
export type PlannableRequest = Pick<IncomingRequest, 'model' | 'provider' | 'request' | 'caller' | 'metadata'>;

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
export async function planCall(deps: ApiDeps, incoming: PlannableRequest): Promise<CallPlan> {
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

/** The route plan, reduced to what the caller's key may use. */
function permittedTargets(
  table: RoutingTable,
  incoming: PlannableRequest,
  model: string | undefined,
): readonly RouteTarget[] {
  const allowed = incoming.caller.key?.allowedModels;
  const { request, provider } = incoming;
  const plan = () => planRoute(table, { model, provider, requirements: requirementsOf(request) });
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
  { providers, config }: ApiDeps,
  { request }: PlannableRequest,
  planned: readonly RouteTarget[],
  input: InputBound,
  { hardBudget }: Policy,
): readonly CallTarget[] {
  const { unpriced_models } = config.gateway.budgets;
  const refused = unpriced_models === 'refuse' || (hardBudget && unpriced_models !== 'allow');
  const usable = refused ? planned.filter((target) => target.catalogued) : planned;
  if (usable.length === 0) throw notPriced(planned[0]?.model ?? '', hardBudget);
  const now = Date.now();
  return usable.map(({ provider, model, catalogued: current }) => {
    const catalogued = current && pricedAt(current, now);
    const adapter = providers.get(provider);
    const bound = boundCall(request, input, catalogued, hardBudget);
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

const notPriced = (model: string, hardBudget: boolean) =>
  new HoldfastError(
    'policy_model_not_priced',
    `'${model}' has no price in the catalogue${hardBudget ? ', so a hard budget cannot be kept' : ''}. ` +
      'Add it with GATEWAY_MODELS or PUT /api/v1/models.',
    { param: 'model' },
  );

/** For APIs that demand a limit, where neither the caller nor the catalogue names one. */
const DEFAULT_MAX_OUTPUT_TOKENS = 4_096;

function toAdmission(
  { config: { gateway } }: ApiDeps,
  caller: AuthenticatedCaller,
  targets: readonly CallTarget[],
  input: InputBound,
  { limits }: Policy,
  priceVersion: string,
): AdmissionRequest {
  const self = limitedAs(caller);
  const own = limits.some(({ scope, ...l }) => scope === self?.type && l.id === self.id && !isUnlimited(l));
  const { enabled, requests_per_minute, tokens_per_minute } = gateway.rate_limit;
  const byDefault = {
    requestsPerMinute: requests_per_minute,
    tokensPerMinute: tokens_per_minute,
    concurrentRequests: null,
  };
  const all = self && enabled && !own ? [...limits, { ...byDefault, scope: self.type, id: self.id }] : limits;
  return {
    limits: all.flatMap(({ scope: type, id, requestsPerMinute, tokensPerMinute, concurrentRequests }): RateLimit[] => {
      const of = (kind: LimitKind, limit: number | null, cost: number): RateLimit[] =>
        limit === null ? [] : [{ name: limitName({ type, id } as Scope, kind), kind, limit, cost }];
      return [
        ...of('requests', requestsPerMinute, 1),
        ...of('tokens', tokensPerMinute, input.typicalTokens),
        ...of('concurrent', concurrentRequests, 1),
      ];
    }),
    estimatedTokens: input.typicalTokens,
    maxCostNanos: Math.max(...targets.map((target) => target.maxCostNanos)),
    priceVersion,
  };
}

/** Whom the default limits are for: the key, else the user, else the team. The master key has none. */
function limitedAs({ keyId, user, team }: AuthenticatedCaller): Scope | undefined {
  if (keyId !== null) return { type: 'key', id: keyId };
  if (user !== null) return { type: 'user', id: user };
  return team === null ? undefined : { type: 'team', id: team };
}

/** A key whose limits were all taken away has a row of nulls. */
const isUnlimited = (limits: Omit<ScopeLimits, 'scope'>): boolean =>
  (limits.requestsPerMinute ?? limits.tokensPerMinute ?? limits.concurrentRequests) === null;

const MAX_ATTRIBUTE_LENGTH = 200;

const text = (value: unknown): string | null =>
  typeof value === 'string' && value ? value.slice(0, MAX_ATTRIBUTE_LENGTH) : null;

/** For whom a request counts: as its key says, and where the caller is trusted with it, as its metadata says. */
function attribute({ caller, metadata }: PlannableRequest): Omit<Attribution, 'organisation'> {
  const { kind, keyId, team, project, user, key } = caller;
  const trusted = kind === 'master' || kind === 'client' || key?.kind === 'service';
  const said = trusted ? metadata : {};
  return {
    keyId,
    team: team ?? text(said.team),
    project: project ?? text(said.project),
    user: user ?? text(said.user),
  };
}

function preview(request: ModelRequest, length: number): string {
  if (length === 0) return '';
  const last = request.messages.findLast((message) => message.role === 'user');
  return last ? textOf(last.content).slice(0, length) : '';
}

/** Fields that say how the model was asked, none that say what. */
const PARAMETERS = [
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'n',
  'seed',
  'logprobs',
  'top_logprobs',
  'presence_penalty',
  'frequency_penalty',
  'tool_choice',
  'parallel_tool_calls',
  'reasoning_effort',
] as const satisfies readonly (keyof ModelRequest)[];

const parametersOf = (request: ModelRequest): Record<string, unknown> => ({
  ...Object.fromEntries(PARAMETERS.filter((name) => request[name] !== undefined).map((name) => [name, request[name]])),
  ...(request.response_format && { response_format: request.response_format.type }),
  ...(request.tools && { tools: request.tools.length }),
});
