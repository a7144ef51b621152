import type { Caller } from '../../domain/caller.ts';
import { HoldfastError } from '../../domain/errors.ts';

/** The model a request names, else its key's default one. Throws `caller_invalid_request` when there is neither. */
export function requiredModel(named: string | undefined, { key }: Caller): string {
  const model = named ?? key?.defaultModel;
  if (model) return model;
  throw new HoldfastError('caller_invalid_request', "Missing required parameter: 'model'.", { param: 'model' });
}
