import type { IncomingHttpHeaders } from 'node:http';
import type { ModelRequest } from '../../domain/chat.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { PreparedCall } from '../../planning/prepare.ts';
import type { Bodies } from '../../storage/postgres/bodies.ts';

const HEADER = 'x-holdfast-dedup';

/**
 * Whether a request may share one provider call with identical ones of its team under way: by default if its answer is
 * meant to be the same each time, else if the caller says so. Never if it asks for several answers.
 */
export function mayShare({ temperature, seed, n = 1 }: ModelRequest, headers: IncomingHttpHeaders): boolean {
  const wish = headers[HEADER];
  if (wish !== undefined && wish !== 'on' && wish !== 'off') {
    throw new HoldfastError('caller_invalid_request', `${HEADER} must be 'on' or 'off'.`, { param: HEADER });
  }
  if (n > 1) return false;
  return wish === undefined ? temperature === 0 || seed !== undefined : wish === 'on';
}

/** What requests have in common that may share a call: all that is asked, where it may go, and for whom it counts. */
export function sharedKeyOf(bodies: Bodies, { row, call }: PreparedCall): string {
  const targets = call.targets.map(({ provider, model }) => `${provider}/${model}`);
  const { attribution, feature, surface } = row;
  return bodies.fingerprint([surface, call.stream, call.bodyRef, targets, { ...attribution, keyId: null }, feature]);
}
