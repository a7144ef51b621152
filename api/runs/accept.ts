import { type ModelRequest, textOf } from '../../domain/chat.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { IdPrefix } from '../../domain/ids.ts';
import { newId } from '../../domain/ids.ts';
import type { AdmissionTerms, RateLimit } from '../../domain/rate-limit.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import type { AuthenticatedCaller } from '../auth/caller.ts';
import type { ApiDeps } from '../context.ts';
import { toAdmission } from './admission.ts';
import { attributeText, planCall } from './plan.ts';

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
  const { settings } = deps.routing;
  const plan = await planCall(deps, incoming);
  const { model, who, policy, targets } = plan;
  const id = newId(incoming.idPrefix);
  const requestId = incoming.requestId ?? id;
  const modelRequested = model ?? targets[0]?.model ?? '';
  const body = deps.bodies.seal(request);
  const now = Date.now();
  const deadlineAt = now + deps.config.gateway.server.request_deadline * 1000;

  await deps.requests.insert({
    id,
    runId: id,
    requestId,
    owner: caller.owner,
    attribution: who,
    feature: attributeText(incoming.metadata.feature),
    markupPercent: policy.markupPercent,
    surface: incoming.surface,
    modelRequested,
    prompt: preview(request, settings.logging.prompt_preview),
    parameters: { ...parametersOf(request), stream, metadata: incoming.metadata },
    body,
  });
  const admission = { ...toAdmission(settings.rate_limit, caller, plan), ...incoming.terms };
  const call = {
    requestId: id,
    bodyRef: body.ref,
    stream,
    resumable: incoming.requestId !== undefined,
    targets,
    keyScope: { virtualKeyId: caller.keyId, team: caller.team },
    retryDelayMs: settings.retry.retry_delay * 1000,
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
