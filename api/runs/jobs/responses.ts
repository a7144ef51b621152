import { withoutNulls } from '../../../domain/chat-body.ts';
import { HoldfastError } from '../../../domain/errors.ts';
import { newId } from '../../../domain/ids.ts';
import { type ResponseBody, responseBody } from '../../../domain/responses/body.ts';
import { toResponseSeed } from '../../../domain/responses/seed.ts';
import { rejectUnsupported } from '../../../domain/responses/unsupported.ts';
import { toSeconds } from '../../../domain/time.ts';
import type { StoredResponse } from '../../../storage/postgres/responses.ts';
import type { ApiDeps } from '../../context.ts';
import { submitRun } from '../background.ts';
import { requiredModel } from '../required-model.ts';
import { incomingResponse, SURFACE } from '../responses/incoming-response.ts';
import { currentResponse } from '../responses/response-stream.ts';
import type { SubmittedRun } from '../submit-once.ts';
import { type JobKind, type NewJob, parseBody } from './job-kind.ts';

/** A response as a job. */
export const responseJobs: JobKind = {
  kind: 'response',
  endpoint: '/v1/responses',

  submit(deps, { body, ...job }) {
    rejectUnsupported(body);
    return submitResponse(deps, job, parseBody(responseBody, withoutNulls(body)));
  },

  async result(deps, { id }) {
    const stored = await deps.responses.find(id, undefined);
    return stored && currentResponse(deps, await seedOf(deps, stored));
  },
};

/** Accepts a response that nobody waits for. */
export async function submitResponse(
  deps: ApiDeps,
  job: Omit<NewJob, 'body'>,
  given: ResponseBody,
): Promise<SubmittedRun> {
  const { caller } = job;
  const model = requiredModel(given.model, caller);
  const body = { ...given, model, background: true };
  const { request, store } = await incomingResponse(deps, body, caller);
  const id = newId('resp');
  return submitRun(deps, {
    ...job,
    kind: 'response',
    id,
    endpoint: '/v1/responses',
    body,
    surface: SURFACE,
    model,
    request,
    stream: body.stream ?? false,
    attribution: body.metadata ?? {},
    store: (db) => store(db, id, new Date()),
  });
}

/** What the events and the object of a stored response follow from. */
export async function seedOf(deps: ApiDeps, { id, createdAt, inputRef }: StoredResponse) {
  const body = await deps.bodies.get<ResponseBody>(inputRef);
  if (!body) throw new HoldfastError('caller_not_found', `What '${id}' was asked is not kept any more.`);
  return toResponseSeed({ id, createdAt: toSeconds(createdAt), model: body.model ?? '' }, body);
}
