import { chatCompletionBody, withoutNulls } from '../../../domain/chat-body.ts';
import { newId } from '../../../domain/ids.ts';
import { toChatCompletion } from '../../../domain/openai-chat.ts';
import { toSeconds } from '../../../domain/time.ts';
import { submitRun } from '../background.ts';
import { loadAnswer } from '../follow.ts';
import { requiredModel } from '../required-model.ts';
import { type JobKind, parseBody } from './job-kind.ts';

/** A chat completion as a job. */
export const chatJobs: JobKind = {
  kind: 'chat.completion',
  endpoint: '/v1/chat/completions',

  submit(deps, { body, ...job }) {
    const parsed = parseBody(chatCompletionBody, withoutNulls(body));
    const { model: named, stream = false, stream_options: _, metadata = {}, ...request } = parsed;
    const model = requiredModel(named, job.caller);
    return submitRun(deps, {
      ...job,
      kind: 'chat.completion',
      id: newId('chatcmpl'),
      endpoint: '/v1/chat/completions',
      body: parsed,
      surface: 'chat.completions',
      model,
      request,
      stream,
      attribution: metadata,
    });
  },

  async result(deps, { id, createdAt }) {
    const answer = await deps.requests.answer(id);
    if (!answer) return undefined;
    const { result, metadata } = await loadAnswer(deps, answer);
    return toChatCompletion({ id, created: toSeconds(createdAt) }, result, metadata);
  },
};
