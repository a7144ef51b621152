import { type ModelRequest, outputLimit } from '../domain/chat.ts';
import type { ModelTarget } from './adapter.ts';

/**
 * The body of a chat completion: the unified request as it came in, for the target's model.
 * @param official OpenAI itself, whose newer models know the output limit by its newer name only.
 */
export const toOpenAIRequest = (request: ModelRequest, target: ModelTarget, official: boolean) => ({
  ...request,
  model: target.model,
  ...(target.outputLimit !== undefined &&
    outputLimit(request) === undefined &&
    (official ? { max_completion_tokens: target.outputLimit } : { max_tokens: target.outputLimit })),
});
