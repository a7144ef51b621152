import type { Caller } from '../../../domain/caller.ts';
import { requirementsOf } from '../../../domain/capabilities.ts';
import type { ModelRequest } from '../../../domain/chat.ts';
import { boundInput } from '../../../domain/cost-bound.ts';
import type { ResponseBody } from '../../../domain/responses/body.ts';
import { toModelRequest } from '../../../domain/responses/model-request.ts';
import { truncateToFit } from '../../../domain/responses/truncate.ts';
import { planRoute } from '../../../domain/route-plan.ts';
import { insertBody } from '../../../storage/postgres/bodies.ts';
import type { Sql } from '../../../storage/postgres/database.ts';
import { ownOf } from '../../auth/caller.ts';
import type { ApiDeps } from '../../context.ts';
import { conversationUpTo } from './conversation.ts';

export const SURFACE = 'responses';

/** A response on its way in. */
export interface IncomingResponse {
  readonly model: string;
  readonly request: ModelRequest;
  /** Stores what is needed to fetch it and to go on from it. */
  readonly store: (db: Sql, id: string, createdAt: Date) => Promise<void>;
}

/** Makes the model request of a response's body, with the conversation before it. */
export async function incomingResponse(
  deps: ApiDeps,
  body: ResponseBody & { readonly model: string },
  caller: Caller,
): Promise<IncomingResponse> {
  const { model, previous_response_id: previous } = body;
  const history = previous === undefined ? [] : await conversationUpTo(deps, previous, ownOf(caller));
  const whole = toModelRequest(body, history);
  const request = body.truncation === 'auto' ? truncated(deps, whole, body, caller) : whole;
  const input = deps.bodies.seal(body);
  return {
    model,
    request,
    store: async (db, id, createdAt) => {
      await insertBody(input).execute(db);
      await deps.responses.insert(db, {
        id,
        owner: caller.owner,
        project: caller.project,
        background: body.background ?? false,
        previousResponseId: previous ?? null,
        inputRef: input.ref,
        createdAt,
      });
    },
  };
}

/** The part of a context window that is kept free for an answer without a limit of its own. */
const ANSWER_SHARE = 0.25;

function truncated(deps: ApiDeps, request: ModelRequest, { model, max_output_tokens }: ResponseBody, caller: Caller) {
  const zone = caller.key?.privacyZone ?? undefined;
  const [target] = planRoute(deps.routing.table, { model, zone, requirements: requirementsOf(request) });
  if (!target?.catalogued) return request;
  const { contextWindow, maxOutputTokens } = target.catalogued;
  const outputLimit = max_output_tokens ?? Math.min(maxOutputTokens, Math.floor(contextWindow * ANSWER_SHARE));
  return truncateToFit(request, { contextWindow, outputLimit, estimate: (part) => boundInput(part).typicalTokens });
}
