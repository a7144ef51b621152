import { newId } from '../../../domain/ids.ts';
import { toChatCompletion } from '../../../domain/openai-chat.ts';
import { toSeconds } from '../../../domain/time.ts';
import { requireDefault } from '../../routes/chat-completions.ts';
import { chatCompletionBody, withoutNulls } from '../../schemas/chat.ts';
import { submitRun } from '../background.ts';
import { loadAnswer } from '../follow.ts';
import { type JobKind, parseBody } from './job-kind.ts';

/** A chat completion as a job. */
export const chatJobs: JobKind = {
  kind: 'chat.completion',
  endpoint: '/v1/chat/completions',

  submit(deps, { body, ...job }) {
    const parsed = parseBody(chatCompletionBody, withoutNulls(body));
    const {
      model = requireDefault(job.caller.key?.defaultModel),
      stream = false,
      stream_options: _,
      metadata = {},
      ...request
    } = parsed;
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
