import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { toEnvelope } from '../../domain/error-envelope.ts';
import { ERRORS, faultOf, HoldfastError, toHoldfastError } from '../../domain/errors.ts';
import { problemOf } from './validation-problem.ts';

/** Every error of the API as an answer in OpenAI's envelope. */
export const errors = fp(
  async (app) => {
    app.setErrorHandler<FastifyError>((thrown, request, reply) => {
      const error = fromFastify(thrown, request);
      if (error.code === 'gateway_internal') request.log.error({ err: thrown }, 'Request failed unexpectedly');
      return sendError(reply, error);
    });
    app.setNotFoundHandler((request, reply) =>
      sendError(reply, new HoldfastError('caller_not_found', `There is no ${request.method} ${pathOf(request)}.`)),
    );
  },
  { name: 'errors' },
);

/** Answers with status, envelope and the headers by which SDKs decide whether to retry. */
export function sendError(reply: FastifyReply, error: HoldfastError): FastifyReply {
  if (error.retryAfterMs !== undefined && Number.isFinite(error.retryAfterMs)) {
    reply.header('retry-after', Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
  }
  // The gateway has retried what can be retried; a caller's SDK must not multiply that.
  if (faultOf(error.code) === 'provider' || error.code === 'gateway_deadline_exceeded') {
    reply.header('x-should-retry', 'false');
  }
  if (ERRORS[error.code].status === 401) reply.header('www-authenticate', 'Bearer');
  if (!reply.hasHeader('x-request-id')) reply.header('x-request-id', reply.request.id);
  return reply.status(ERRORS[error.code].status).send(toEnvelope(error));
}

/** @param expected What the body must be. @default application/json */
export const unsupportedMediaType = (expected = 'application/json'): HoldfastError =>
  new HoldfastError('caller_unsupported_media_type', `The request body must be ${expected}.`);

const pathOf = (request: FastifyRequest): string => request.url.split('?')[0] ?? request.url;

function fromFastify(error: FastifyError, request: FastifyRequest): HoldfastError {
  if (error.validation) {
    const [first] = error.validation;
    const { param, message } = first ? problemOf(first) : { param: '', message: error.message };
    return new HoldfastError('caller_invalid_request', message, { param: param || undefined });
  }
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE': {
      const limit = Math.floor(request.routeOptions.bodyLimit / (1024 * 1024));
      return new HoldfastError('caller_body_too_large', `The request body is larger than the limit of ${limit} MB.`);
    }
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return unsupportedMediaType(request.routeOptions.schema?.consumes?.[0]);
    case 'FST_ERR_VALIDATION':
      // Of any problem but this one the validator tells.
      return new HoldfastError('caller_invalid_request', 'The request body is nested too deeply.');
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new HoldfastError('caller_invalid_request', 'The request body is empty; it must be a JSON object.');
  }
  if (error instanceof SyntaxError || error.code === 'FST_ERR_CTP_INVALID_JSON_BODY') {
    return new HoldfastError('caller_invalid_request', `The request body is not valid JSON: ${error.message}`);
  }
  if (!(error instanceof HoldfastError) && error.statusCode && error.statusCode >= 400 && error.statusCode < 500) {
    return new HoldfastError('caller_invalid_request', error.message);
  }
  return toHoldfastError(error);
}
