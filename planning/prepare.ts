import { type ModelRequest, textOf } from '../domain/chat.ts';
import type { ModelCall } from '../domain/model-call.ts';
import type { AdmissionTerms } from '../domain/rate-limit.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import type { NewRequest } from '../storage/postgres/requests.ts';
import { toAdmission } from './admission.ts';
import { attributeText, type PlannableRequest, type PlanningDeps, planCall } from './plan.ts';

export interface PreparationDeps extends PlanningDeps {
  readonly bodies: Bodies;
}

/** A validated model call, on its way into a workflow. */
export interface IncomingCall extends PlannableRequest {
  readonly id: string;
  /** The workflow it belongs to. */
  readonly runId: string;
  /** Unique within the caller's owner. */
  readonly requestId: string;
  /** `chat.completions`, `generate` or `responses`. */
  readonly surface: string;
  readonly stream: boolean;
  /** Go on after a stream broke in the middle. */
  readonly resumable: boolean;
  /** Reservation and settlement are up to the activity that makes the calls; see `ModelCall`. @default false */
  readonly checkedByCall?: boolean;
  /** Nobody waits for it. @default false */
  readonly background?: boolean;
  /** It may go through the provider's batch API, if that has one, together with others. @default false */
  readonly gather?: boolean;
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  readonly terms: AdmissionTerms;
}

/** A call ready to be stored and started. */
export interface PreparedCall {
  readonly row: NewRequest;
  readonly call: ModelCall;
}

/** Plans a call and makes the row and the workflow's input of it. Throws when it cannot be accepted. */
export async function prepareCall(deps: PreparationDeps, incoming: IncomingCall): Promise<PreparedCall> {
  const { id, caller, request, stream, resumable, deadlineAt, maxCostNanos } = incoming;
  const { settings } = deps.routing;
  const plan = await planCall(deps, incoming);
  const { model, who, policy, targets } = plan;
  const body = deps.bodies.seal(request);
  const row: NewRequest = {
    id,
    runId: incoming.runId,
    requestId: incoming.requestId,
    acceptedAt: new Date(),
    owner: caller.owner,
    attribution: who,
    feature: attributeText(incoming.metadata.feature),
    markupPercent: policy.markupPercent,
    surface: incoming.surface,
    modelRequested: model ?? targets[0]?.model ?? '',
    prompt: preview(request, settings.logging.prompt_preview),
    parameters: { ...parametersOf(request), stream, metadata: incoming.metadata },
    body,
  };
  const call: ModelCall = {
    requestId: id,
    bodyRef: body.ref,
    stream,
    resumable,
    targets,
    keyScope: { virtualKeyId: caller.keyId, team: caller.team },
    retryDelayMs: settings.retry.retry_delay * 1000,
    deadlineAt,
    admission: {
      ...toAdmission(settings.rate_limit, caller, plan),
      ...incoming.terms,
      ...(incoming.checkedByCall && { since: Date.now() }),
    },
    ...(incoming.checkedByCall && { checkedByCall: true }),
    tenant: caller.owner,
    ...(maxCostNanos !== undefined && { maxCostNanos }),
    ...(incoming.background && { background: true }),
    ...(incoming.gather && !stream && deps.providers.get(targets[0]?.provider ?? '')?.batches && { gather: true }),
  };
  return { row, call };
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
