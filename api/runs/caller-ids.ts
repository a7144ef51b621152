import type { FastifyRequest } from 'fastify';
import type { Caller } from '../../domain/caller.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { Bodies } from '../../storage/postgres/bodies.ts';
import type { IdempotencyKey } from '../../storage/postgres/idempotency.ts';

/**
 * `Idempotency-Key`: of requests to an endpoint that carry the same one, one is made and all get its answer.
 *
 * @throws `caller_invalid_request` when it is not 1 to 255 printable characters.
 */
export function idempotencyKeyOf(
  bodies: Bodies,
  { headers, body, caller }: FastifyRequest,
  endpoint: string,
): IdempotencyKey | undefined {
  const key = headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) {
    return { owner: keyOwnerOf(caller), endpoint, key, bodyHash: bodies.fingerprint([inOrder(body ?? null)]) };
  }
  throw new HoldfastError('caller_invalid_request', 'Idempotency-Key must be 1 to 255 printable characters.', {
    param: 'Idempotency-Key',
  });
}

/** Who shares `Idempotency-Key`s: a project sees its own requests only, so what others of its team made is no answer to it. */
export const keyOwnerOf = ({ owner, project }: Caller): string =>
  project === null ? owner : JSON.stringify([owner, project]);

/** Clients that keep objects in hash maps write the same one differently each time. */
function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, part]) => [name, inOrder(part)]));
}

/** `x-request-id` makes a request findable after its connection broke. */
export function requestIdOf({ headers }: FastifyRequest): string | undefined {
  const id = headers['x-request-id'];
  if (id === undefined) return undefined;
  if (typeof id === 'string' && /^[\x21-\x7e]{1,128}$/.test(id)) return id;
  throw new HoldfastError('caller_invalid_request', 'x-request-id must be 1 to 128 printable characters.', {
    param: 'x-request-id',
  });
}
