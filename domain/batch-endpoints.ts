import type { ModelRequest, ModelResult } from './chat.ts';
import { chatCompletionBody, withoutNulls } from './chat-body.ts';
import { HoldfastError } from './errors.ts';
import { toChatCompletion } from './openai-chat.ts';
import { responseBody } from './responses/body.ts';
import { toModelRequest } from './responses/model-request.ts';
import { answeredResponse } from './responses/response-object.ts';
import { toResponseSeed } from './responses/seed.ts';
import { rejectUnsupported } from './responses/unsupported.ts';
import type { ResponseMetadata } from './stream-item.ts';
import { validated } from './validation.ts';

/** What a line's body asks for. */
export interface LineRequest {
  readonly model: string | undefined;
  readonly request: ModelRequest;
  /** The caller's own. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface LineAnswer {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly result: ModelResult;
  readonly metadata: ResponseMetadata;
}

/** An endpoint that batches can be for. */
export interface BatchEndpoint {
  readonly surface: string;
  /** Throws what the endpoint would answer to that body. */
  parse(body: unknown): LineRequest;
  /** What the endpoint would have answered. */
  render(body: unknown, answer: LineAnswer): object;
}

const chat: BatchEndpoint = {
  surface: 'chat.completions',
  parse(body) {
    // Nobody watches, so nothing is streamed.
    const {
      model,
      stream,
      stream_options: _,
      metadata = {},
      ...request
    } = validated(chatCompletionBody, withoutNulls(body));
    if (stream) throw notInBatches('stream');
    return { model, request, metadata };
  },
  render: (_body, { id, created, result, metadata }) => toChatCompletion({ id, created }, result, metadata),
};

const responses: BatchEndpoint = {
  surface: 'responses',
  parse(body) {
    const response = toResponseBody(body);
    if (response.stream) throw notInBatches('stream');
    if (response.background) throw notInBatches('background');
    if (response.previous_response_id) throw notInBatches('previous_response_id');
    return { model: response.model, request: toModelRequest(response), metadata: response.metadata ?? {} };
  },
  render(body, { id, created, result, metadata }) {
    const response = toResponseBody(body);
    const model = response.model ?? result.model;
    return answeredResponse(toResponseSeed({ id, createdAt: created, model }, response), result, metadata);
  },
};

function toResponseBody(body: unknown) {
  rejectUnsupported(body);
  return validated(responseBody, withoutNulls(body));
}

const notInBatches = (param: string) =>
  new HoldfastError('caller_unsupported_parameter', `'${param}' cannot be used in a batch.`, { param });

export const BATCH_ENDPOINTS: Readonly<Record<BatchEndpointName, BatchEndpoint>> = {
  '/v1/chat/completions': chat,
  '/v1/responses': responses,
};

export type BatchEndpointName = '/v1/chat/completions' | '/v1/responses';
